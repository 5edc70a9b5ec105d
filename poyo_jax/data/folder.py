"""A folder of session files."""

from collections.abc import Sequence
from pathlib import Path

from poyo_jax.data.io.manifest import open_with_manifest
from poyo_jax.data.session import Session
from poyo_jax.errors import DataError, suggest
from poyo_jax.files import local_path
from poyo_jax.words import counted, some_of


def open_sessions(folder: str | Path, names: Sequence[str] | None = None) -> list[Session]:
    """Open the session files (`*.h5`) in `folder` and below, in the order of their paths.

    With `names` only those whose file name without .h5 is listed, in the order of the list. Raises
    DataError when the folder is missing, is a file or has no session, or when a name is not there
    or belongs to several files; SessionError for a file that is not a session.
    """
    folder, names = local_path(folder), [names] if isinstance(names, str) else names
    if folder.is_file():
        raise DataError(
            f"{folder} is a file, not a folder. Give the folder that holds it, or open one session"
            " with poyo_jax.Session.open(path)."
        )
    paths = sorted(folder.rglob("*.h5")) if folder.is_dir() else []
    if not paths:
        state = "has no session files (*.h5)" if folder.is_dir() else "does not exist"
        raise DataError(
            f"the data folder {folder} {state}. Give the folder that holds processed sessions, or"
            " try `make demo`, which needs none."
        )
    if names is None:
        return open_with_manifest(folder, paths)
    files: dict[str, list[Path]] = {}
    for path in paths:
        files.setdefault(path.stem, []).append(path)
    missing = [name for name in names if name not in files]
    if missing:
        verb = "is" if len(names) == 1 else "are"
        raise DataError(
            f"{len(missing)} of {counted(len(names), 'session')} {verb} not in {folder}:"
            f" {some_of(missing)}.{suggest(missing[0], files)}"
            f" It has {counted(len(files), 'session')}."
        )
    for name in names:
        if len(files[name]) > 1:
            several = some_of([str(path) for path in files[name]])
            raise DataError(
                f"{folder} has {len(files[name])} files {name}.h5: {several}. Rename all but one,"
                " or give a folder that holds one of them."
            )
    return open_with_manifest(folder, [files[name][0] for name in names])
