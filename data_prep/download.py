"""The command `python -m data_prep download`: list the files to fetch, then fetch them.

The archives list their files, sizes and digests: DANDI through its own client, Zenodo through its
record. Both are then fetched in one way (`data_prep.fetch`), since the client of DANDI names a file
before its digest is checked, and appends to what it has even where a server sends the file from its
beginning.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from data_prep.catalogue import CatalogueEntry, Dandiset, Form, ZenodoRecord
from data_prep.fetch import (
    TIMEOUT,
    DownloadError,
    RemoteFile,
    amount,
    fetch,
    file_size,
    get_json,
    needed,
    partial_path,
    reason,
)
from poyo_jax.errors import DataError, PoyoError, suggest
from poyo_jax.files import write_text

logger = logging.getLogger(__name__)

DANDI_API = "https://api.dandiarchive.org/api"
ZENODO_API = "https://zenodo.org/api"
RECORD = ".verified.json"


@dataclass(frozen=True)
class Plan:
    """Files that a download will fetch; its text lists them in three lines.

    `download` carries it out.
    """

    data_set: CatalogueEntry
    folder: Path
    files: tuple[RemoteFile, ...]
    paths: tuple[Path, ...]  # of all files, where they are or will be
    num_verified: int  # files that are there, and whose digests were checked
    num_unchecked: int  # files that are there by their sizes
    missing_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        there = (
            f"{self.num_verified} are there and verified, {self.num_unchecked} are there to be"
            " verified"
        )
        if isinstance(self.data_set.archive, Form):
            there = "all are there; the site gives no checksums to verify them"
        total = sum(file.size for file in self.files) or sum(
            path.stat().st_size for path in self.paths
        )
        lines = [
            f"{self.data_set.name}, {self.data_set.archive} ({self.data_set.licence})",
            f"{len(self.paths)} of {self.data_set.num_files} files, {amount(total)}: {there}",
            (
                f"{amount(self.missing_bytes)} to fetch into {self.folder}, where"
                f" {amount(self.free_bytes)} are free"
            ),
        ]
        return "\n".join(lines)


def plan(data_set: CatalogueEntry, folder: Path, patterns: Sequence[str] = ()) -> Plan:
    """List the files of the archive and find those that are in the folder already.

    Nothing is written.

    `patterns` choose files by their names or paths, such as `sub-C_*`; without them all are taken.

    Raises DataError when a pattern fits no file or the files must be fetched by hand, DownloadError
    when the archive cannot be asked, and MissingDependencyError when the packages for downloads are
    not installed.
    """
    if isinstance(data_set.archive, Form):
        files, paths = (), _fetched_by_hand(data_set, data_set.archive, folder, patterns)
    else:
        needed("pooch")
        listed = {file.name: file for file in _list_files(data_set, data_set.archive)}
        files = tuple(listed[name] for name in _choose(data_set, sorted(listed), patterns))
        paths = tuple(folder / file.name for file in files)
    verified = Verified(folder)
    unchecked = [
        file
        for file in files
        if file not in verified and file_size(folder / file.name) == file.size
    ]
    missing = [file for file in files if file not in verified and file not in unchecked]
    return Plan(
        data_set,
        folder,
        files,
        paths,
        len(files) - len(missing) - len(unchecked),
        len(unchecked),
        sum(file.size - _begun(file, folder) for file in missing),
        _free_bytes(folder),
    )


def download(plan: Plan, *, progress: bool = True) -> list[Path]:
    """Fetch missing files, verify unchecked ones, and return the paths of all files of the plan.

    Raises DownloadError when the disk lacks space or a file cannot be had, and PoyoError when the
    folder cannot be written. Whatever stops a download, also Ctrl-C, the same plan continues it.
    """
    if plan.missing_bytes > plan.free_bytes:
        raise DownloadError(
            f"{plan.data_set.name} needs {amount(plan.missing_bytes)} more in {plan.folder}, where"
            f" only {amount(plan.free_bytes)} are free. Free some space, choose a folder on another"
            " disk, or fetch fewer files (--file)."
        )
    verified = Verified(plan.folder)
    left = [file for file in plan.files if file not in verified]
    total = sum(file.size for file in plan.files)
    with Progress(
        plan.data_set.name, total - sum(file.size for file in left), total, progress
    ) as bar:
        for file in left:
            fetch(file, plan.folder / file.name, bar.move)
            verified.add(file)
    return list(plan.paths)


class Verified:
    """Record of the files of a folder whose digests were checked.

    A file is not read again until its size or time changes.
    """

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / RECORD
        try:
            self._entries = dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._entries = {}

    def __contains__(self, file: RemoteFile) -> bool:
        entry = self._entries.get(file.name)
        return entry is not None and entry == self._entry(file)

    def add(self, file: RemoteFile) -> None:
        self._entries[file.name] = self._entry(file)
        write_text(self._path, json.dumps(self._entries, indent=1))

    def _entry(self, file: RemoteFile) -> dict[str, int | str] | None:
        with contextlib.suppress(OSError):
            found = (self._folder / file.name).stat()
            return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "digest": file.digest}


# --- archives


def _list_files(data_set: CatalogueEntry, archive: Dandiset | ZenodoRecord) -> list[RemoteFile]:
    with _asking(archive):
        files = _list_dandiset(archive) if isinstance(archive, Dandiset) else _list_zenodo(archive)
    if not (files := [file for file in files if _fits(file.name, data_set.raw_files)]):
        raise DownloadError(
            f"{archive} lists no file named like {' or '.join(data_set.raw_files)}."
        )
    return files


def _list_dandiset(dandiset: Dandiset) -> list[RemoteFile]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", dandiset.version):
        raise DataError(
            f"{dandiset} is not a published version, and what is not published may change any day."
            " Name one, such as 0.250122.1735; the archive's page of the set lists them."
        )
    api = needed("dandi.dandiapi")
    os.environ.setdefault("DANDI_NO_ET", "1")  # or the client reports its use to its authors
    get_json(f"{DANDI_API}/info/")  # the client alone is silent for a minute when it cannot connect
    with _without_errors("dandi"), api.DandiAPIClient(DANDI_API) as client:
        client.session.request = functools.partial(client.session.request, timeout=TIMEOUT)
        dandi = client.get_dandiset(dandiset.id, dandiset.version)
        listed = client.paginate(f"{dandi.version_api_path}assets/", params={"metadata": "true"})
        assets = [api.RemoteAsset.from_data(dandi, entry) for entry in listed]
        return [
            RemoteFile(
                a.path, a.base_download_url, a.size, f"sha256:{a.get_raw_digest('dandi:sha2-256')}"
            )
            for a in assets
        ]


def _list_zenodo(record: ZenodoRecord) -> list[RemoteFile]:
    return [
        RemoteFile(entry["key"], entry["links"]["self"], entry["size"], entry["checksum"])
        for entry in get_json(f"{ZENODO_API}/records/{record.id}")["files"]
        if entry["key"].endswith(record.endings)
    ]


@contextlib.contextmanager
def _asking(archive: Dandiset | ZenodoRecord) -> Iterator[None]:
    """Turn failures to list the files of an archive into sentences."""
    requests = needed("requests")
    try:
        yield
    except PoyoError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DownloadError(
            f"what {archive} says about its files was not understood ({type(error).__name__}:"
            f" {error}). Its protocol may have changed; pip install --upgrade dandi pooch, then run"
            " the same command again."
        ) from error
    except requests.RequestException as error:
        raise DownloadError(
            f"{archive} could not be asked for its files"
            f" ({getattr(error.request, 'url', 'no request')}): {reason(error)}. Nothing was"
            " fetched; run the same command again later."
        ) from error


@contextlib.contextmanager
def _without_errors(name: str) -> Iterator[None]:
    """Silence a logger whose errors are raised as well."""
    logger = logging.getLogger(name)

    def no_error(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger.addFilter(no_error)
    try:
        yield
    finally:
        logger.removeFilter(no_error)


# --- choosing


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatchcase(text, pattern)
        for pattern in patterns
        for text in (name, name.rpartition("/")[2])
    )


def _choose(data_set: CatalogueEntry, names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that fit any of the patterns. Raises DataError when a pattern fits none."""
    for pattern in patterns:
        if not any(_fits(name, [pattern]) for name in names):
            last_parts = [name.rpartition("/")[2] for name in names]
            raise DataError(
                f"no file of {data_set.name} fits {pattern!r}.{suggest(pattern, last_parts)} Its"
                f" {len(names)} files are named like"
                f" {', '.join(last_parts[:: max(1, len(names) // 3)][:3])}; * stands for any"
                " letters."
            )
    return [name for name in names if not patterns or _fits(name, patterns)]


def _fetched_by_hand(
    data_set: CatalogueEntry, form: Form, folder: Path, patterns: Sequence[str]
) -> tuple[Path, ...]:
    """Return the chosen files of a site with a form.

    Raises DataError, which explains the next step, when files are missing.
    """
    names = _choose(data_set, form.files, patterns)
    there = {path.name: path for path in data_set.find(folder) if path.name in names}
    if missing := [name for name in names if name not in there]:
        so_far = (
            f"{', '.join(there)} of it are there already" if there else "nothing of it is there yet"
        )
        raise DataError(
            f"{data_set.name} must be fetched by hand, since its site asks to fill in a form. Open"
            f" {form.url} in a browser, fill in the form, and save {', '.join(missing)} in {folder}"
            f" ({so_far}) or in any other folder. Then run: python -m data_prep prepare"
            f" {data_set.name} --raw {folder}"
        )
    return tuple(there[name] for name in names)


def _begun(file: RemoteFile, folder: Path) -> int:
    """Bytes of a file that an earlier attempt left."""
    size = file_size(partial_path(folder / file.name))
    return size if 0 <= size <= file.size else 0


def _free_bytes(folder: Path) -> int:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free


# --- progress


class Progress:
    """A bar of bytes on a terminal; elsewhere a log line every 30 s. `show=False` is silent."""

    def __init__(self, what: str, done: int, total: int, show: bool):
        self._what, self._done, self._total, self._show = what, done, total, show
        disable = None if show else True
        self._bar = tqdm(
            desc=what, initial=done, total=total, unit="B", unit_scale=True, disable=disable
        )
        self._logged = time.monotonic()

    def move(self, num_bytes: int) -> None:
        self._done += num_bytes
        self._bar.update(num_bytes)
        if self._bar.disable and self._show and time.monotonic() - self._logged > 30:
            self._logged = time.monotonic()
            logger.info("%s: %s of %s", self._what, amount(self._done), amount(self._total))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
