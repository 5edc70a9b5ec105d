"""List the files of a step with their digests, so that damage to any byte is noticed.

Orbax keeps bytes in its files that count for nothing, and digests of arrays cannot see them.
"""

import hashlib
import json

from etils import epath

LIST = "files.json"
COMMITTED = "commit_success.txt"  # Orbax writes it to say that a folder is complete


def list_files(folder: epath.Path) -> None:
    """Write the list of all files in the folders of a step that is not yet final."""
    items = [path for path in folder.iterdir() if path.is_dir()]
    names = sorted(name for item in items for name in _names(folder, item.name))
    digests = {name: _digest(folder / name) for name in names}
    (folder / LIST).write_text(json.dumps(digests, indent=0))


def items_of_step(folder: epath.Path) -> list[str]:
    """The items of which a step has files, such as params; raises ValueError or OSError."""
    return sorted({name.split("/")[0] for name in _listed(folder)})


def check_files(folder: epath.Path, item: str, first: int = 0, every: int = 1) -> None:
    """Raise ValueError or OSError unless the files of an item of a step are those listed.

    Of `every` processes, each checks the files from number `first` on that are its share, and the
    first one that the list is complete.
    """
    digests = _listed(folder)
    names = sorted(name for name in digests if name.startswith(f"{item}/"))
    if not names:
        raise ValueError(f"its list of files has none of {item}")
    for name in names[first::every]:
        if not (folder / name).exists():
            raise ValueError(f"{name} is missing")
        if _digest(folder / name) != digests[name]:
            raise ValueError(f"{name} is not the file that was saved: its SHA-256 differs")
    if first == 0:
        for name in sorted(set(_names(folder, item)) - set(names)):
            raise ValueError(f"{name} is not in its list of files")


def _listed(folder: epath.Path) -> dict[str, str]:
    digests = json.loads((folder / LIST).read_text())
    if not isinstance(digests, dict):
        raise ValueError("its list of files is none")
    return digests


def _names(folder: epath.Path, item: str) -> list[str]:
    """Names, relative to `folder`, of all files of an item."""
    names, folders = [], [folder / item]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir():
                folders.append(path)
            elif path.name != COMMITTED:
                names.append(path.relative_to(folder).as_posix())
    return names


def _digest(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
