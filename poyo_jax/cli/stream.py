"""Decode spikes as they arrive: from the Lab Streaming Layer, from ZeroMQ, or a session replayed.

    $ python -m poyo_jax stream runs/pretrain sessions/monday.h5
    $ python -m poyo_jax stream runs/pretrain sessions/monday.h5 --lsl Spikes --lsl-out Decoded
    $ python -m poyo_jax stream monday.poyo --zmq tcp://127.0.0.1:7000
    $ python -m poyo_jax stream runs/pretrain sessions/monday.h5 --page

plays the session at the speed of its recording, unless a stream of spikes is named. Every update is
a line "TIME VALUE ..." on standard output: the end of its window in s, and a value for each query
and channel. What was dropped, and how long updates took, stands on standard error at the end. A
.poyo file is decoded by the native back end, and loads no jax.
"""

import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from poyo_jax.checks import check_number, integer
from poyo_jax.cli.options import MaybeFloat, MaybeInt, MaybeText
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import session_at
from poyo_jax.errors import ConfigError, DataError, PoyoError
from poyo_jax.files import local_path
from poyo_jax.words import counted

if TYPE_CHECKING:
    from poyo_jax.data.session import Session
    from poyo_jax.realtime import Sink, Source, Stream, Update
    from poyo_jax.watch.monitor import Monitor

RIG_FILE = ".poyo"


@dataclass(frozen=True, kw_only=True)
class StreamCommand:
    """Decode spikes as they arrive."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name), or a .poyo
    file.
    """
    session: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SESSION")] = None
    """Session file: its units and readout, and the spikes that are played. A .poyo file needs none,
    unless it is played.
    """
    lsl: MaybeText = None
    """Take spikes from the LSL stream of this name: a sample for each, an id or position of a unit.
    """
    zmq: MaybeText = None
    """Take spikes from the ZeroMQ publisher at this address: lines "TIME UNIT" with ids of units.
    """
    delay: float = 0.0
    """Seconds that an update of an LSL stream waits longer, for spikes that travel."""
    speed: MaybeFloat = 1.0
    """Factor of the speed at which the session is played; None waits for nothing."""
    start: MaybeFloat = None
    """Play the session from this time on, s."""
    hop: MaybeFloat = None
    """Time between two updates, s; by default 0.05, or that of the .poyo file."""
    queries: tuple[float, ...] = ()
    """Decode the behaviour so many seconds before each update; by default 0, or as the file says.
    """
    output: MaybeText = None
    """Name of the output to decode, of a model with several."""
    back_end: Annotated[Literal["jax", "native"] | None, tyro.conf.arg(metavar="{jax,native}")] = (
        None
    )
    """Back end for a model, by default "jax"; "native" needs a C++ compiler."""
    threads: int = 1
    """Threads of the native back end."""
    bfloat16: bool = False
    """Let the native back end multiply bfloat16."""
    lsl_out: MaybeText = None
    """Send the values to an LSL stream of this name, in place of standard output."""
    page: bool = False
    """Serve a page on this machine on which you watch, in place of standard output."""
    port: int = 0
    """Port of the page on loopback; 0 takes a free one."""
    updates: MaybeInt = None
    """Stop after so many updates."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax stream"
    run_command(decode_stream, StreamCommand, arguments, prog=prog, description=__doc__)


def decode_stream(options: StreamCommand) -> None:
    """Decode until the source ends, or Ctrl-C."""
    from poyo_jax.realtime import follow
    from poyo_jax.watch.monitor import Monitor

    check_together(options)
    check_number("updates", options.updates, integer(1, or_none=True))
    session = None if options.session is None else session_at(options.session)
    _say(f"loading {options.model} ...")
    stream, unit_ids = make_stream(options, session)
    source = make_source(options, session, unit_ids)
    tally = Tally()
    name = options.model if session is None else f"{options.model} decodes {session.id}"
    monitor = Monitor(name, unit_ids, stream.hop, stream.queries)
    sinks = [*make_sinks(options, stream), tally, *[monitor] * options.page]
    _say("warming up ...")
    stream.warm_up()
    with served(monitor, options) if options.page else nullcontext():
        _say(f"decoding every {1000 * stream.hop:g} ms; Ctrl-C ends it")
        try:
            follow(stream, source, sinks, updates=options.updates)
            monitor.end("The source has ended.")
            wait_for_reader(options)
        except KeyboardInterrupt:
            pass
        finally:
            source.close()
            _say(summary(stream, tally, getattr(source, "not_understood", 0)))


def check_together(options: StreamCommand) -> None:
    """Raise ConfigError for options that do not go together, or change nothing beside others."""
    if options.lsl is not None and options.zmq is not None:
        raise ConfigError("spikes come from one source: give --lsl or --zmq, not both.")
    played = options.lsl is None and options.zmq is None
    rig = options.model.endswith(RIG_FILE)
    for name, in_vain, purpose in (
        ("delay", options.delay != 0 and options.lsl is None, "spikes of --lsl"),
        ("speed", options.speed != 1 and not played, "a session that is played"),
        ("start", options.start is not None and not played, "a session that is played"),
        ("back-end", options.back_end is not None and rig, "a model: a .poyo file has its own"),
        ("port", options.port != 0 and not options.page, "the page of --page"),
    ):
        if in_vain:
            raise ConfigError(f"--{name} is for {purpose}. Leave it out.")


def make_stream(
    options: StreamCommand, session: "Session | None"
) -> tuple["Stream", tuple[str, ...]]:
    """The decoder, and the ids of its units."""
    settings = {"threads": options.threads, "bfloat16": options.bfloat16}
    if options.model.endswith(RIG_FILE):
        from poyo_jax import native

        if options.hop is not None or options.queries or options.output is not None:
            raise ConfigError(
                f"{options.model} has its own hop and queries, and one output; leave --hop,"
                " --queries and --output out."
            )
        rig = native.load(local_path(options.model), **settings)
        if session is not None and tuple(map(str, session.unit_ids)) != rig.unit_ids:
            raise DataError(
                f"session {session.id} has other units than {options.model}. Give the session that"
                " the file was made for."
            )
        return rig, rig.unit_ids
    from poyo_jax import StreamDecoder, load

    if session is None:
        raise ConfigError("a model decodes one of the sessions that it knows: give its file, too.")
    hop = 0.05 if options.hop is None else options.hop
    queries = options.queries or (0.0,)
    model = load(options.model)
    back_end = options.back_end or "jax"
    stream = StreamDecoder(
        model, session, hop, queries, output=options.output, back_end=back_end, **settings
    )
    return stream, tuple(map(str, session.unit_ids))


def make_source(
    options: StreamCommand, session: "Session | None", unit_ids: tuple[str, ...]
) -> "Source":
    """The source of spikes that the options name."""
    from poyo_jax.realtime import LslInlet, Replay, ZmqSubscriber

    if options.lsl is not None:
        return LslInlet(options.lsl, unit_ids, delay=options.delay)
    if options.zmq is not None:
        return ZmqSubscriber(options.zmq, unit_ids)
    if session is None:
        raise ConfigError("there are no spikes: give a session file to play, --lsl or --zmq.")
    return Replay(session, speed=options.speed, start=options.start)


def make_sinks(options: StreamCommand, stream: "Stream") -> list["Sink"]:
    """Where the values go, beside the page."""
    if options.lsl_out is None:
        return [] if options.page else [write_line]
    from poyo_jax.realtime import LslOutlet

    return [LslOutlet(options.lsl_out, stream.hop)]


@contextmanager
def served(monitor: "Monitor", options: StreamCommand) -> Iterator[None]:
    """Serve the page in a thread of its own."""
    from poyo_jax.watch.server import WatchServer

    with WatchServer(monitor, options.port) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        _say(f"watch at {server.address}")
        try:
            yield
        finally:
            server.shutdown()


def wait_for_reader(options: StreamCommand) -> None:
    """Leave the page open after the last update, until Ctrl-C."""
    if options.page:
        _say("the source has ended; the page stays until Ctrl-C")
        Event().wait()


def write_line(update: "Update") -> None:
    """Write an update to standard output, as `poyo_run` does."""
    values = " ".join(f"{value:.9g}" for value in update.decoded.values.ravel())
    try:
        print(f"{update.now:.6f} {values}", flush=True)
    except BrokenPipeError:  # whoever read them has ended
        raise
    except OSError as error:
        # What is left would be written again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise PoyoError(
            f"values cannot be written ({error.strerror}); the update at {update.now:.6f} s is the"
            " first that is missing. Check that the disk has space."
        ) from error


class Tally:
    """Counts updates, and keeps the seconds that they took; a sink."""

    def __init__(self) -> None:
        self.seconds, self.missed = array("d"), 0

    def __call__(self, update: "Update") -> None:
        self.seconds.append(update.seconds)
        self.missed = update.missed


def summary(stream: "Stream", tally: Tally, not_understood: int) -> str:
    """What became of the spikes and of lines that hold no time, and how long updates took."""
    counts = stream.state.counts
    words = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in vars(counts).items())
    if not_understood:
        words += f"; lines that were not understood: {not_understood}"
    if not tally.seconds:
        return f"no update; spikes: {words}"
    percentiles = np.percentile(np.array(tally.seconds) * 1000, (50, 99, 100))
    times = " / ".join(f"{value:.2f}" for value in percentiles)
    return (
        f"{counted(len(tally.seconds), 'update')} of {times} ms (median / 99 % / worst),"
        f" {tally.missed} left out because they were overdue; spikes: {words}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
