"""A decoder of FALCON: spikes of one bin in, the behaviour of this bin out."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from poyo_jax import native
from poyo_jax.data.session import Session
from poyo_jax.decoding.stream import BackEnd, StreamDecoder
from poyo_jax.errors import DataError, suggest
from poyo_jax.falcon.recordings import BIN_SIZE, session_tag
from poyo_jax.falcon.text import channels_to_text
from poyo_jax.files import local_path
from poyo_jax.pretrained import Pretrained
from poyo_jax.realtime.stream import Stream

try:
    from falcon_challenge.interface import BCIDecoder  # pyright: ignore[reportMissingImports]
except ImportError:  # the evaluator, which needs it, is not there either
    BCIDecoder = object

QUERY = BIN_SIZE / 2  # s before the end of a bin: its middle, where sessions have the behaviour
MakeStream = Callable[[str], Stream]


class FalconDecoder(BCIDecoder):  # pyright: ignore[reportGeneralTypeIssues]
    """Decodes the sessions of a task bin by bin, each by a stream of its own.

    A bin is decoded from its own spikes and those before it. In H1, M1 and M2 the values equal
    those of `decode` with `causal_step=0.02` to round-off. In H2, whose output is text, the values
    of a trial become text at its end.
    """

    def __init__(self, task_config: Any, make_stream: MakeStream, batch_size: int = 1):
        """Make a decoder for the evaluator of falcon-challenge.

        Args:
            task_config: the FalconConfig of the task.
            make_stream: returns a new stream for the tag of a session, as `streams_of_model` and
                `streams_of_folder` make it.
            batch_size: files that are decoded together.
        """
        self._task_config, self._make_stream = task_config, make_stream
        self.batch_size = batch_size
        self._streams: list[Stream] = []
        self._num_bins = 0
        self._trial: list[np.ndarray] = []  # values of the bins of a trial of H2

    def set_batch_size(self, batch_size: int) -> None:
        """Decode so many files together."""
        self.batch_size = batch_size

    def reset(self, dataset_tags: Sequence[str | Path] = ()) -> None:
        """Begin to decode these files, one for each place in the batch.

        Raises DataError for a session of which there is no stream, or whose stream has other
        channels than the task, and RawDataError for a name that tells no session.
        """
        tags = [session_tag(self._task_config, tag) for tag in dataset_tags]
        self._streams = [self._make_stream(tag) for tag in tags]
        self._num_bins, self._trial = 0, []
        for tag, stream in zip(tags, self._streams, strict=True):
            seen, needed = stream.engine.num_units, self._task_config.n_channels
            if seen != needed:
                raise DataError(
                    f"the decoder of {tag} has {seen} units, but the task"
                    f" {self._task_config.task.name} has {needed} channels. Give models of that"
                    " task."
                )

    def predict(
        self, neural_observations: Float64[np.ndarray, "batch channels"] | np.ndarray
    ) -> Float64[np.ndarray, "batch outputs"]:
        """Values of the next bin, in the units of the files, from its counts [batch, channels].

        Raises DataError for counts of another shape.
        """
        counts = np.asarray(neural_observations)
        needed = (len(self._streams), self._task_config.n_channels)
        if counts.shape != needed:
            raise DataError(
                f"the counts of a bin have shape {counts.shape}, but {needed} is needed: files,"
                " channels. Call reset(dataset_tags) with the files first."
            )
        end = (self._num_bins + 1) * BIN_SIZE
        for stream, row in zip(self._streams, counts.astype(np.int64), strict=True):
            stream.push(*_spikes_of_bin(row, self._num_bins))
        values = np.stack([stream.predict(end).values[0] for stream in self._streams])
        self._num_bins += 1
        if self._task_config.task.name == "h2":
            self._trial.append(values[0])
        return values

    def observe(self, neural_observations: np.ndarray) -> None:
        """Take in the counts of a bin, [batch, channels], without scores.

        Raises DataError as `predict`.
        """
        self.predict(neural_observations)

    def on_done(self, dones: np.ndarray) -> str | None:
        """The text of the trial that has ended, in H2; other tasks are decoded without trials.

        `dones` [batch] counts 1 for each file whose trial has ended.
        """
        if self._task_config.task.name != "h2":
            return None
        values, self._trial = self._trial, []
        return channels_to_text(np.stack(values)) if values else ""


def streams_of_model(
    pretrained: Pretrained, sessions: Iterable[Session], *, back_end: BackEnd = "jax"
) -> MakeStream:
    """Streams of a model, for the sessions that it knows (of `falcon_session`).

    The streams raise DataError for a session that is not among them, and VocabError for one that
    the model does not know.
    """
    known = {session.id.rpartition("/")[2]: session for session in sessions}

    def make_stream(tag: str) -> Stream:
        session = _found(tag, known)
        return StreamDecoder(pretrained, session, BIN_SIZE, (QUERY,), back_end=back_end)

    return make_stream


def save_streams(
    pretrained: Pretrained, sessions: Iterable[Session], folder: str | Path
) -> list[Path]:
    """Write TAG.poyo for each session: all that a submission needs, without jax.

    Raises VocabError for a session that the model does not know, ConfigError for a model that the
    native back end does not compute, PoyoError when a file cannot be written.
    """
    paths = []
    for session in sessions:
        path = local_path(folder) / f"{session.id.rpartition('/')[2]}.poyo"
        StreamDecoder(pretrained, session, BIN_SIZE, (QUERY,)).save(path)
        paths.append(path)
    return paths


def streams_of_folder(folder: str | Path, *, threads: int = 1) -> MakeStream:
    """Streams of the files that `save_streams` wrote, by the native back end.

    Raises DataError for a folder without such files. The streams raise it for a session of which
    there is no file.
    """
    folder = local_path(folder)
    known = {path.stem: path for path in sorted(folder.glob("*.poyo"))}
    if not known:
        raise DataError(
            f"there is no .poyo file in {folder}. Write them with poyo_jax.falcon.save_streams."
        )
    return lambda tag: native.load(_found(tag, known), threads=threads)


def _found(tag: str, known: dict[str, Any]) -> Any:
    if tag in known:
        return known[tag]
    raise DataError(
        f"there is no decoder for session {tag!r}.{suggest(tag, known)} There are {len(known)}:"
        f" {', '.join(sorted(known)[:5]) or 'none'}. Calibrate on this session, too."
    )


def _spikes_of_bin(counts: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Times in s and units of the spikes of a bin, spread evenly as in `Session.from_counts`."""
    units = np.repeat(np.arange(len(counts)), counts)
    of_unit = counts[units]
    first = np.cumsum(counts) - counts
    within = (np.arange(len(units)) - first[units] + 0.5) / of_unit
    return (number + within) * BIN_SIZE, units
