"""Answers to the page: the sessions, the content of a window, and its predictions."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np

from poyo_jax.data.classes import readout_values
from poyo_jax.data.given import session_list
from poyo_jax.data.session import SPLITS, Session
from poyo_jax.errors import DataError, PoyoError, suggest
from poyo_jax.explore.questions import MAX_QUERIES, Question
from poyo_jax.explore.ready import ReadyDecoder
from poyo_jax.page_server import Answer
from poyo_jax.pages import short_names
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import Readout, each_readout

MAX_DECODERS = 4  # sessions and outputs whose compiled decoders stay in memory
FALLBACK_RATE = 100.0  # Hz of the queries where no behaviour was measured


class Explorer:
    """Model and recordings behind the page.

    Sessions are known by their ids alone; nothing in a request becomes a path.

    Several threads may ask at once. Raises DataError when there is no session, or when two have the
    same id.
    """

    def __init__(self, pretrained: Pretrained, sessions: Session | Sequence[Session]):
        self._pretrained = pretrained = check_model(pretrained)
        sessions = session_list(sessions)
        self._sessions = {session.id: session for session in sessions}
        # By session, and the name of one of several outputs; oldest first.
        self._decoders: dict[tuple[str, str], ReadyDecoder] = {}
        self._lock = Lock()  # of the decoders
        self._executor = ThreadPoolExecutor(1, "compile")
        self.window_length: float = pretrained.config.model.window_length
        if not sessions:
            raise DataError(
                "there is no session to explore; give a session file or a folder that holds some."
            )
        if len(self._sessions) < len(sessions):
            ids = [session.id for session in sessions]
            twice = next(name for name in ids if ids.count(name) > 1)
            raise DataError(
                f"several files hold a session {twice!r}; explore a folder that has each session"
                " once."
            )

    def overview(self) -> Answer:
        """The model and all sessions, with the session times at which their windows may start."""
        sessions = [
            {
                "id": session.id,
                "known": self._pretrained.knows(session),
                "num_units": len(session.unit_ids),
                "starts": self._starts(session),
                "first": self._first(session),
            }
            for session in self._sessions.values()
        ]
        lengths = {"window_length": self.window_length, "max_queries": MAX_QUERIES}
        return {
            "model": repr(self._pretrained).removeprefix("Pretrained(").removesuffix(")"),
            "sessions": sessions,
        } | lengths

    def window(self, session_id: str, start: float, output: str = "") -> Answer:
        """Spikes, behaviour and default query times of [start, start + window_length).

        `start` is in s of session time. The behaviour is that of the named output, by default of
        the first that the session has.

        Times of the answer are seconds from the start of the window; what was not measured is None.
        `problem` says in a sentence why the model cannot decode this session. Raises DataError when
        there is no such session, window or output.
        """
        session = self._session(session_id)
        first, last = self._starts(session)
        if not first <= start <= last:
            raise DataError(
                f"start is {start:g} s, but windows of {session_id} start at {first:g} to"
                f" {last:g} s."
            )
        stop = start + self.window_length
        times, units = session.spikes_between(start, stop)
        readout = self._readout(session, output)
        problem = self._problem(session)
        answer = {
            "start": start,
            "unit_ids": list(session.unit_ids),
            "unit_labels": short_names(session.unit_ids),
            "spike_times": (times - start).tolist(),
            "spike_units": units.tolist(),
            "splits": [
                name
                for name in SPLITS
                if session.has_split(name) and _overlaps(session, name, start, stop)
            ],
            "problem": problem,
            "outputs": [each.name for each in self._readouts(session)],
            "output": "" if readout is None else readout.name,
        }
        return answer | self._behaviour(session, None if problem else readout, start)

    def _readouts(self, session: Session) -> Sequence[Readout]:
        """The readouts of a session; none of one that the model does not know."""
        given = self._pretrained.readouts.get(session.id)
        return [] if given is None else each_readout(given)

    def _readout(self, session: Session, output: str) -> Readout | None:
        """The named readout of a session, or its first; None of one that is not known."""
        readouts = self._readouts(session)
        if not output or not readouts:
            return next(iter(readouts), None)
        names = [readout.name for readout in readouts]
        if output not in names:
            raise DataError(
                f"session {session.id} has no output {output[:60]!r}; it has {', '.join(names)}."
                f"{suggest(output, names)} Choose one of these."
            )
        return readouts[names.index(output)]

    def predict(self, question: Question) -> Answer:
        """Predictions of a window at the query times, in the units of the session file.

        Raises DataError for a session, unit or output that does not exist, or too many spikes;
        VocabError or SessionError when the model cannot decode the session.
        """
        session = self._session(question.session_id)
        decoder = self._decoder(session, question.output)
        num_spikes, num_units = len(question.spike_times), len(session.unit_ids)
        if num_spikes > decoder.max_spikes:
            raise DataError(
                f"the window has {num_spikes} spikes; send {decoder.max_spikes} at most for this"
                " session."
            )
        began = time.perf_counter()
        values = decoder(question)
        return {
            "values": _listed(values),
            "tokens": {"spike": num_spikes, "start": num_units, "stop": num_units},
            "milliseconds": 1000 * (time.perf_counter() - began),
        }

    def progress(self, session_id: str, output: str = "") -> Answer:
        """Number of compiled window sizes of a session, and of all its sizes; 0 of 0 at first."""
        decoder = self._decoders.get(self._key(self._session(session_id), output))
        ready, sizes = decoder.progress if decoder else (0, 0)
        return {"ready": ready, "sizes": sizes}

    def warm_up(self) -> None:
        """Begin to compile for the session that the page shows first."""
        for session in self._sessions.values():
            if self._pretrained.knows(session) and self._problem(session) is None:
                self._executor.submit(self._decoder, session, "")
                return

    def close(self) -> None:
        """Compile nothing more; waits for what is being compiled."""
        self._executor.shutdown(cancel_futures=True)

    def _session(self, session_id: str) -> Session:
        if session_id not in self._sessions:
            raise DataError(
                f"there is no session {session_id[:60]!r}"
                f" here.{suggest(session_id, self._sessions)} Choose one of the"
                f" {len(self._sessions)} that are listed."
            )
        return self._sessions[session_id]

    def _key(self, session: Session, output: str) -> tuple[str, str]:
        """The session, and which of several outputs is decoded."""
        readout, several = self._readout(session, output), len(self._readouts(session)) > 1
        return session.id, readout.name if readout and several else ""

    def _decoder(self, session: Session, output: str) -> ReadyDecoder:
        key = self._key(session, output)
        with self._lock:
            if key not in self._decoders:
                decoder = ReadyDecoder(self._pretrained, session, key[1], self._executor)
                if len(self._decoders) == MAX_DECODERS:
                    self._decoders.pop(next(iter(self._decoders))).cancel()
                self._decoders[key] = decoder
            return self._decoders[key]

    def _problem(self, session: Session) -> str | None:
        try:
            self._pretrained.source(session, session.domain)
        except PoyoError as error:
            return str(error)
        return None

    def _starts(self, session: Session) -> tuple[float, float]:
        """First and last start of a window."""
        first = float(session.domain.starts[0])
        return first, max(first, float(session.domain.ends[-1]) - self.window_length)

    def _first(self, session: Session) -> float:
        """Start of the first window to show: in the test split, unseen in training."""
        first, last = self._starts(session)
        wanted = float(session.split("test").starts[0]) if session.has_split("test") else first
        return min(max(wanted, first), last)

    def _behaviour(self, session: Session, readout: Readout | None, start: float) -> Answer:
        """Measured behaviour, the position of the same series if there is one, and query times."""
        nothing = {"times": [], "values": []}
        if readout is None:
            unknown = {"quantity": None, "unit": "", "position": None}
            return {"targets": nothing, "query_times": []} | unknown
        targets, times = self._samples(session, readout.value_key, start, readout)
        position_key = f"{readout.value_key.rsplit('.', 1)[0]}.pos"
        has_position = position_key in session.behaviour_keys and readout.value_key != position_key
        queries = times[:: -(-len(times) // MAX_QUERIES) or 1]
        if not len(queries):
            queries = np.arange(
                0, self.window_length, max(1 / FALLBACK_RATE, self.window_length / MAX_QUERIES)
            )
        return {
            "quantity": readout.value_key,
            "unit": _unit(session, readout),
            "targets": targets,
            "position": self._samples(session, position_key, start)[0] if has_position else None,
            "query_times": queries[:MAX_QUERIES].tolist(),
        }

    def _samples(
        self, session: Session, key: str, start: float, readout: Readout | None = None
    ) -> tuple[Answer, np.ndarray]:
        """Samples of a behaviour in the window, and their times from its start.

        Classes are positions in the readout, as the decoded ones are.
        """
        behaviour = session.behaviour(key)
        first, last = behaviour.range(start, start + self.window_length)
        times = behaviour.times_at(np.arange(first, last)) - start
        values = behaviour.values(first, last)
        if readout is not None:
            values = readout_values(behaviour, readout, first, last)
        return {"times": times.tolist(), "values": _listed(values)}, times


def _unit(session: Session, readout: Readout) -> str:
    """The unit of a behaviour; of classes, what their numbers stand for."""
    if readout.classes:
        return ", ".join(f"{number} {name}" for number, name in enumerate(readout.classes))
    return session.behaviour(readout.value_key).unit


def _overlaps(session: Session, split: str, start: float, stop: float) -> bool:
    intervals = session.split(split)
    return bool(np.any((intervals.starts < stop) & (intervals.ends > start)))


def _listed(values: np.ndarray) -> list:
    """Return nested lists, with None for what is not finite."""
    listed = values.astype(object)
    listed[~np.isfinite(values)] = None
    return listed.tolist()
