"""Fit units in a second process, while a stream goes on: `Recalibration`."""

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from poyo_jax.checks import check_number, integer
from poyo_jax.data.choose_readouts import output_number
from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import one_of
from poyo_jax.decoding.rig_file import check_native
from poyo_jax.decoding.stream import StreamDecoder
from poyo_jax.errors import PoyoError
from poyo_jax.finetune.fit import fit_units
from poyo_jax.finetune.strategies import STRATEGIES
from poyo_jax.fit_config import FitConfig
from poyo_jax.native import NativeEngine, load
from poyo_jax.native.library import load_library
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.pretrained import load as load_model
from poyo_jax.realtime.stream import CAPACITY, check_settings
from poyo_jax.types import each_readout

MODEL, BLOCK, RESULT, REASON = "model", "block.h5", "fitted.poyo", "reason"
GENTLE = 10  # niceness: the stream comes first


class Recalibration:
    """Fits the units of a session to its last minutes, in a process of its own.

    >>> job = Recalibration(pretrained, last_minutes, hop=0.05)
    >>> ...                                  # updates go on
    >>> if (engine := job.poll()) is not None:
    ...     stream.swap(engine)              # between two updates

    The model may know the session or not. Like every program that starts processes, one that uses
    it needs `if __name__ == "__main__":` around what it does.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        session: Session,
        config: FitConfig | None = None,
        *,
        hop: float,
        queries: Sequence[float] = (0.0,),
        output: str | None = None,
        threads: int = 1,
    ):
        """Start to fit.

        Args:
            pretrained: the model.
            session: the recording to fit to, with the measured or intended behaviour, and a train
                split; its units are those of the stream, in the same order.
            config: settings of the fit; by default those of `fit_units`.
            hop: s between two updates of the stream.
            queries: those of the stream, s before an update.
            output: name of what is decoded; None takes the only output of the session.
            threads: of the native engine that comes out, 1 to 8.

        Raises:
            ConfigError: a setting is not allowed, or the native back end does not compute the
                model.
            DataError: an argument is something else, or the session has several outputs of which
                none is named.
            PoyoError: the session or the model cannot be written to a temporary folder.
        """
        pretrained, session = check_model(pretrained), one_session(session)
        check_settings(pretrained.config.model.window_length, hop, queries, CAPACITY)
        check_number("threads", threads, integer(1, 8))
        check_native(pretrained.config.model, _output_number(pretrained, session, output))
        load_library()  # compiles, if it must, before the stream waits for it
        self._threads = threads
        self._engine: NativeEngine | None = None
        self._temporary = tempfile.TemporaryDirectory(prefix="poyo_recalibration_")
        self._folder = Path(self._temporary.name)
        pretrained.save(self._folder / MODEL)
        session.save(self._folder / BLOCK)
        spawned = multiprocessing.get_context("spawn")
        config = config or STRATEGIES["unit_identification"]
        settings = (str(self._folder), config, hop, tuple(queries), output)
        self._process = spawned.Process(target=_fit, args=settings, daemon=True)
        self._process.start()

    def poll(self) -> NativeEngine | None:
        """Return an engine with the fitted units, or None as long as the fit goes on.

        It takes milliseconds, and later calls return the same engine. Raises PoyoError when the fit
        has failed, with its reason.
        """
        if self._engine is not None:
            return self._engine
        if self._process.is_alive():
            return None
        if self._process.exitcode:
            reason = self._folder / REASON
            text = reason.read_text() if reason.exists() else f"status {self._process.exitcode}"
            raise PoyoError(
                f"the recalibration has failed ({text}). The stream goes on with the units that it"
                " has; record another block and start again."
            )
        engine = load(self._folder / RESULT, threads=self._threads).engine
        engine.warm_up(len(engine.queries))
        self._engine = engine
        return engine

    def pretrained(self) -> Pretrained:
        """Return the fitted model, once `poll` has returned an engine."""
        return load_model(self._folder / f"{MODEL}_fitted")

    def close(self) -> None:
        """End the process, and remove its files."""
        self._process.terminate()
        self._process.join()
        self._temporary.cleanup()


def _output_number(pretrained: Pretrained, session: Session, name: str | None) -> int | None:
    """Number of the output that is fitted; None if only the fit of a new session will tell.

    Raises DataError if there are several and none is named, or none of that name.
    """
    model = pretrained.config.model
    if session.id not in pretrained.sessions:
        return 0 if len(model.all_outputs) == 1 else None
    by_name = {}
    for readout in each_readout(pretrained.readouts[session.id]):
        if (number := output_number(readout, model)) is not None:
            by_name[model.all_outputs[number].name] = number
    return one_of(by_name, name, "Recalibration once for each")


def _fit(
    folder: str,
    config: FitConfig,
    hop: float,
    queries: tuple[float, ...],
    output: str | None,
) -> None:
    """Fit in the second process, and write a .poyo file; a reason where that fails."""
    os.nice(GENTLE)
    place = Path(folder)
    try:
        model, session = load_model(place / MODEL), Session.open(place / BLOCK)
        known = "refit" if session.id in model.sessions else "refuse"
        fitted = fit_units(model, session, config, known=known, progress=False).pretrained
        fitted.save(place / f"{MODEL}_fitted")
        StreamDecoder(fitted, session, hop, queries, output=output).save(place / RESULT)
    except Exception as error:  # whatever it was, the parent has to tell it
        known = isinstance(error, PoyoError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        (place / REASON).write_text(reason)
        raise SystemExit(1) from error
