"""Several processes that train together: how they find each other, and how they agree.

Processes agree in two ways. Before the first step all compare what they were started with. After
that, every process casts a vote of small integers before each batch, and all take the largest of
each (`Votes`): that is how they choose a common batch shape, decide to save, and stop together,
without a process having to wait for the devices.
"""

import difflib
import hashlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from poyo_jax.distributed.mesh import replicated, split_over_windows
from poyo_jax.errors import ConfigError, DistributedError, PoyoError
from poyo_jax.words import counted

logger = logging.getLogger(__name__)

# Variables that tell how many processes were launched, and by what.
COUNTS = {
    "JAX_NUM_PROCESSES": "JAX_COORDINATOR_ADDRESS",
    "SLURM_STEP_NUM_TASKS": "SLURM",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "MPI",
}
SILENCE = 7200  # s, after which jax itself ends a process whose peers are silent
SAME_COMMAND = "Check that every host was started with the same command."
HINTS = {
    "JAX_COORDINATOR_ADDRESS": (
        "Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID on every process."
    ),
    "SLURM": "Start with srun, one task per process, as experiments/launch/slurm.sbatch does.",
}


def start(mode: Literal["auto", "on", "off"] = "auto") -> None:
    """Connect to the other processes of this job, if any, before anything else uses jax.

    `auto` joins where the environment says that several processes were launched (SLURM, Open MPI,
    Kubernetes, TPU pods, or jax's own variables); `on` insists; `off` runs alone.

    Raises DistributedError when the processes do not find each other: going on alone would let each
    of them write the same work directory.
    """
    _add_threads()
    if mode == "off":
        return
    launcher, expected = _launched()
    if mode == "auto" and launcher is None:
        return
    options = _patience()
    if launcher == "JAX_COORDINATOR_ADDRESS":
        options |= {"num_processes": expected, "process_id": _integer("JAX_PROCESS_ID")}
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        raise DistributedError(
            "the processes of this job do not find each other"
            f" ({str(error).splitlines()[0][:300]})."
            f" {HINTS.get(launcher or '', SAME_COMMAND)}"
            " To run on this computer alone, give --distributed off."
        ) from error
    if expected is not None and jax.process_count() != expected:
        raise DistributedError(
            f"{launcher} launched {expected} processes, but jax sees {jax.process_count()}. Give"
            " every process one task of the launcher, or --distributed off to run alone."
        )
    devices = f"{jax.local_device_count()} of {counted(jax.device_count(), 'device')}"
    logger.info("process %d of %d, %s", jax.process_index(), jax.process_count(), devices)


def _patience() -> dict[str, Any]:
    """Options by which jax leaves a peer that is silent to the watchdog of the run.

    jax would abort after 100 s, which looks like a crash. Old versions have no such option.
    """
    name = "heartbeat_timeout_seconds"
    known = inspect.signature(jax.distributed.initialize).parameters
    return {name: SILENCE} if name in known else {}


def _add_threads() -> None:
    """Give CPU devices more threads than there are devices.

    XLA starts as many threads as there are devices or cores. Devices that wait for each other can
    then keep the last one from a thread, without end.
    """
    num_devices = jax.config.values["jax_num_cpu_devices"]
    if num_devices > 1:
        os.environ.setdefault("NPROC", str(4 * num_devices))


def _launched() -> tuple[str | None, int | None]:
    """(what launched several processes, how many if it says so), or (None, None)."""
    for variable, launcher in COUNTS.items():
        count = _integer(variable) or 1
        if count > 1:
            return launcher, count
    if (
        "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
        or (_integer("MEGASCALE_NUM_SLICES") or 1) > 1
    ):
        return "TPU pod", None
    if "JOB_COMPLETION_INDEX" in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes", None
    if importlib.util.find_spec("libtpu") and any(
        (*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*"))
    ):
        return "TPU", None  # a pod slice says so only through its metadata server, which jax asks
    return None, None


def _integer(variable: str) -> int | None:
    """The integer that an environment variable holds; None if it is not set or empty.

    Raises DistributedError for another text.
    """
    text = os.environ.get(variable)
    try:
        return int(text) if text else None
    except ValueError as error:
        raise DistributedError(
            f"the environment variable {variable} is {text!r}; it must be an integer. Correct it,"
            " or give --distributed off to run on this computer alone."
        ) from error


# --- before the first step


def check_agreement(collect: Callable[[], Mapping[str, str]]) -> None:
    """Check that all processes were started with the same facts (name -> text).

    Raises ConfigError on every process when they differ.

    A process that runs alone does not collect facts.
    """
    if jax.process_count() == 1:
        return
    facts = collect()
    digests = [hashlib.sha256(text.encode()).digest() for text in facts.values()]
    flat = np.frombuffer(b"".join(digests), np.uint8)
    gathered = gather(flat.reshape(len(facts), -1))
    differs = (gathered != gathered[:1]).any(axis=2)  # [processes, facts]
    if not differs.any():
        return
    lines = []
    for number, (name, text) in enumerate(facts.items()):
        others = np.flatnonzero(differs[:, number])
        if len(others):
            reference = text_of_process_0(text)
            lines.append(
                f"{name} of process"
                f" {', '.join(map(str, others[:8]))}{_first_difference(reference, text)}"
            )
    raise ConfigError(
        "the processes of this job were not started alike. Different from process 0:\n  "
        + "\n  ".join(lines)
        + "\nStart every process with the same command, code and data."
    )


def gather(own: np.ndarray) -> np.ndarray:
    """The arrays of all processes, of one shape and any type, along a new first axis."""
    if jax.process_count() == 1:
        return own[None]
    # As bytes, since jax would round float64.
    flat = np.frombuffer(np.ascontiguousarray(own).tobytes(), np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(flat, tiled=True))
    values = np.frombuffer(gathered.astype(np.uint8).tobytes(), own.dtype)
    return values.reshape(jax.process_count(), *own.shape)


def problem_anywhere(problem: str, elsewhere: str) -> str:
    """The problem of this process, or if another one has one, `elsewhere`; "" if none has any.

    All processes must call this, so that all of them can raise. `elsewhere` is a format, whose
    "{}" becomes the number of the first process with a problem.
    """
    affected = np.flatnonzero(gather(np.array(bool(problem))))
    if not len(affected):
        return ""
    return problem or elsewhere.format(affected[0])


def text_of_process_0(text: str) -> str:
    """The text that process 0 gives; all processes must call this, and get it."""
    if jax.process_count() == 1:
        return text
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = gather(np.array([len(data)]))
    padding = int(lengths.max()) - len(data)
    texts = gather(np.pad(data, (0, padding)))
    return texts[0].tobytes().rstrip(b"\0").decode()


def by_process_0(action: Callable[[], None]) -> None:
    """Do something in process 0 alone; all processes must call this, and wait for it.

    Raises on every process the PoyoError that the action raises.
    """
    error = None
    if jax.process_index() == 0:
        try:
            action()
        except PoyoError as raised:
            error = raised
    told = text_of_process_0("" if error is None else str(error))
    if error is not None:
        raise error
    if told:
        raise PoyoError(told)


def _first_difference(reference: str, own: str) -> str:
    """The lines in which this process differs from process 0, a few of them."""
    differences = difflib.ndiff(reference.splitlines(), own.splitlines())
    changed = [line for line in differences if line[0] in "+-"]
    text = ""
    for line in changed[:6]:
        process = jax.process_index() if line[0] == "+" else 0
        text += f"\n    {line} (process {process})"
    return text


# --- step by step

Vote = Callable[[], tuple[int, ...]]


class Votes:
    """Find the largest of the numbers of all processes without waiting for the devices."""

    def __init__(self, mesh: Mesh):
        self._mesh = mesh
        self._largest = jax.jit(lambda votes: votes.max(axis=0), out_shardings=replicated(mesh))

    def cast(self, vote: Vote) -> Vote:
        """Vote, and return a function that waits for all votes.

        The function returns the largest of each number.

        All processes must cast and read in the same order. Alone, a process votes when it reads.
        """
        if jax.process_count() == 1:
            return vote
        numbers = np.array(vote(), np.int32)
        votes = np.tile(numbers, (jax.local_device_count(), 1))
        sharding = split_over_windows(self._mesh)
        result = self._largest(jax.make_array_from_process_local_data(sharding, votes))
        return lambda: tuple(np.asarray(result).tolist())

    def largest(self, *own: int) -> tuple[int, ...]:
        """Vote and wait."""
        return self.cast(lambda: own)()


def digest_of_files(paths: Sequence[Path]) -> str:
    """A fingerprint of the contents of files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def code_version() -> str:
    """Return the digest of this package's source and the version of jax.

    They must be equal on all processes, or the processes would compute different numbers.
    """
    package = Path(cast(str, importlib.util.find_spec("poyo_jax").origin)).parent  # pyright: ignore[reportOptionalMemberAccess]
    return f"poyo_jax {digest_of_files([*package.rglob('*.py')])}\njax {jax.__version__}"
