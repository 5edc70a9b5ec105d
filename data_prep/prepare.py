"""Raw files become session files: in parallel, resumable, each file whole or not there.

Beside the sessions, OUT/.prepared/NAME holds a record of every finished raw file with the checksums
of both, so that a further run does only what is missing or has changed.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread

from tqdm import tqdm

from poyo_jax import Session, __version__
from poyo_jax.errors import DataError, PoyoError
from poyo_jax.files import writable, write_text

RECORDS = ".prepared"


@dataclass(frozen=True)
class Job:
    """Conversion of raw files to sessions by `convert`.

    `recipe` distinguishes conversions and options.
    """

    name: str
    convert: Callable[[Path], Session]
    out: Path
    recipe: str = ""
    compress: bool = False

    @property
    def folder(self) -> Path:
        return self.out / RECORDS / self.name


@dataclass(frozen=True)
class Result:
    """Outcome of the conversion of a raw file."""

    raw: str
    recipe: str
    raw_sha256: str = ""
    session: str = ""  # path of the session file, from OUT
    session_sha256: str = ""
    units: int = 0
    spikes: int = 0
    hours: float = 0.0
    skipped: str = ""  # why there is no session
    done_before: bool = False


def prepare(job: Job, raw_files: Sequence[Path], workers: int = 1) -> list[Result]:
    """Convert raw files, in the order of the list.

    A file that cannot be converted is in the results with the reason.

    Raises DataError when another process prepares the same data set in the same folder, PoyoError
    when OUT cannot be written.
    """
    with _only_one(job):
        _sweep(job)
        results: list[Result] = []
        taken: dict[str, str] = {}
        with tqdm(total=len(raw_files), desc=job.name, unit="file", disable=None) as bar:
            for raw, result in zip(raw_files, _converted(job, raw_files, workers), strict=True):
                results.append(_place(job, raw, result, taken))
                bar.update()
        return results


def _place(job: Job, raw: Path, result: Result, taken: dict[str, str]) -> Result:
    """Give a converted session its final name, unless another file of this run has it."""
    partial = _partial(job, raw)
    if not result.skipped and (other := taken.get(result.session)):
        partial.unlink(missing_ok=True)
        session_id = Path(result.session).stem
        reason = (
            f"{raw.name}: its session id {session_id} is that of {other} as well; remove one of the"
            " two files."
        )
        return Result(raw=raw.name, recipe=job.recipe, skipped=reason)
    if result.skipped:
        return result
    taken[result.session] = raw.name
    if result.done_before:
        return result
    path = job.out / result.session
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial, path)
    write_text(_record_path(job, raw), json.dumps(asdict(result), indent=1) + "\n")
    return result


def _converted(job: Job, raw_files: Sequence[Path], workers: int) -> Iterator[Result]:
    """The result of every raw file, in order."""
    if workers == 1:
        yield from (_convert(job, raw) for raw in raw_files)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_follow_parent
    ) as pool:
        futures = [pool.submit(_convert, job, raw) for raw in raw_files]
        try:
            yield from (
                _outcome(job, raw, future) for raw, future in zip(raw_files, futures, strict=True)
            )
        except BaseException:  # interrupted: do not wait for the files that are being converted
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in active_children():
                worker.kill()
            raise


def _follow_parent() -> None:
    """Leave Ctrl-C to the main process, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


def _outcome(job: Job, raw: Path, future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        reason = (
            f"{raw.name}: a worker was killed, probably for lack of memory; run again with fewer"
            " --workers."
        )
        return Result(raw=raw.name, recipe=job.recipe, skipped=reason)


def _convert(job: Job, raw: Path) -> Result:
    """Convert one raw file into a partial file, unless its session is there already."""
    try:
        checksum = file_checksum(raw)
        if before := _finished(job, raw, checksum):
            return before
        session = job.convert(raw)
        partial = _partial(job, raw)
        session.save(partial, compress=job.compress)
        return Result(
            raw=raw.name,
            recipe=job.recipe,
            raw_sha256=checksum,
            session=f"{session.brainset_id or job.name}/{session.session_id}.h5",
            session_sha256=file_checksum(partial),
            units=len(session.unit_ids),
            spikes=len(session.spike_times),
            hours=session.domain.duration / 3600,
        )
    except PoyoError as error:
        text = str(error)
        reason = text if raw.name in text else f"{raw.name}: {text}"
    except OSError as error:
        reason = (
            f"{raw.name}: cannot be read ({error.strerror or error}); check the file and its"
            " permissions."
        )
    except Exception as error:  # an unexpected error in one file must not stop the others
        reason = f"{raw.name}: unforeseen {type(error).__name__}: {error}; please report this file."
    return Result(raw=raw.name, recipe=job.recipe, skipped=reason)


# --- records


def _finished(job: Job, raw: Path, checksum: str) -> Result | None:
    """Return the record of a raw file whose session is unchanged since it was written."""
    try:
        record = Result(**json.loads(_record_path(job, raw).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    session = job.out / record.session
    if (record.raw_sha256, record.recipe) != (checksum, job.recipe) or not session.is_file():
        return None
    return (
        replace(record, done_before=True)
        if file_checksum(session) == record.session_sha256
        else None
    )


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recipe(**options: object) -> str:
    """Return a text that distinguishes conversions with other code or options."""
    return json.dumps({"poyo_jax": __version__} | options, sort_keys=True, default=str)


def _record_path(job: Job, raw: Path) -> Path:
    return job.folder / f"{raw.name}.json"


def _partial(job: Job, raw: Path) -> Path:
    """Return the path of a converted session before it gets its final name.

    Raw files in two folders may have the same name.
    """
    return (
        job.folder / f"{raw.name}.{hashlib.sha256(bytes(raw.absolute())).hexdigest()[:8]}.partial"
    )


@contextmanager
def _only_one(job: Job) -> Iterator[None]:
    """Keep other processes from preparing the same data set in the same folder.

    The system frees the lock at exit.
    """
    with writable(job.folder):
        job.folder.mkdir(parents=True, exist_ok=True)
        lock = (job.folder / "lock").open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another process is preparing {job.name} in {job.out}; wait until it has ended."
            ) from None
        yield


def _sweep(job: Job) -> None:
    """Remove half-written files of a killed run."""
    for path in job.folder.iterdir():
        if ".partial" in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
