"""Certify the latency of updates, from the last spikes to the values.

    $ python -m experiments.benchmarks.latency runs/monday sessions/monday.h5 --both
    $ python -m experiments.benchmarks.latency --preset poyo_single --picture latency.png
    $ python -m experiments.benchmarks.latency --peer PEER/bin/python

Timed are `push` of the spikes of a hop and `predict`; `prepare` follows in idle time. The
contenders take turns at the same spikes. Prints percentiles in ms, and fails if a program was
compiled, if the memory grew, or if a spike is not accounted for.

--both measures twice: as any program, and with a priority over all others (SCHED_FIFO), on --cores.
That needs root, the capability CAP_SYS_NICE, or a line `@lab - rtprio 50` in
/etc/security/limits.conf. --peer is the Python of an environment with torch_brain
(tests/golden/README.md), whose model decodes whole windows.
"""

import math
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from experiments.benchmarks.draw import SPIKES, UNITS
from experiments.benchmarks.one_window import untrained
from experiments.benchmarks.race import Contender, peer
from experiments.benchmarks.speed import sizes
from experiments.studies import recurrent  # noqa: F401  its processor may be that of a model
from poyo_jax import Pretrained, Session, StreamDecoder, WindowDecoder, load
from poyo_jax.cli.options import MaybePath, MaybeText
from poyo_jax.cli.program import run_command
from poyo_jax.config import Config, ModelConfig
from poyo_jax.errors import ConfigError, MissingDependencyError, PoyoError
from poyo_jax.presets import PRESETS

PERCENTILES = (50, 99, 99.9)
FIRST = 200  # updates that are not counted: caches fill
PEER_TURN = 25  # windows that the peer decodes at a time
MOST_GROWTH = 4.0  # MB over all updates that count as none
FIFO = ("chrt", "-f", "50")

Update = Callable[[float, np.ndarray, np.ndarray], float]  # returns the seconds that it took


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of updates, from the last spikes to the values."""

    model: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="MODEL")] = None
    """A trained model; by default an untrained one, with 100 units and 1300 spikes a second."""
    session: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SESSION")] = None
    """A session that it knows; its spikes are replayed, over and over."""
    preset: str = "poyo_single"
    """Preset of the untrained model."""
    updates: int = 100_000
    """Updates of each contender."""
    hop: float = 0.05
    """Time between two updates, s."""
    queries: int = 5
    """Samples that an update decodes."""
    pause: float = 0.0
    """Real time between two updates, s."""
    contenders: tuple[str, ...] = ("window", "jax", "native_1", "native_2")
    """"window": WindowDecoder; "jax"; "native_1" to "native_8", threads; "bfloat16_1" and so on."""
    peer: MaybeText = None
    """Python of an environment with torch_brain, to take turns with."""
    both: bool = False
    """Measure twice, without a priority and with SCHED_FIFO."""
    cores: str = "0,1"
    """Cores for SCHED_FIFO, as taskset takes them."""
    picture: MaybePath = None
    """Write a plot of all latencies to this file; --both writes another one beside it."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(certify, Latency, arguments, description=__doc__)


def certify(options: Latency) -> None:
    """Measure all contenders, here or in two processes with and without a priority."""
    if (options.model is None) != (options.session is None):
        raise ConfigError("a model needs a session that it knows: give both, or none of them.")
    if not options.both:
        return report(measure(options), options)
    words = [word for word in sys.argv[1:] if word != "--both"]
    command = [sys.executable, "-m", "experiments.benchmarks.latency", *words]
    first = subprocess.run(command)
    if options.picture:
        fifo = options.picture.with_stem(f"{options.picture.stem}_fifo")
        command += ["--picture", str(fifo)]
    second = subprocess.run([*FIFO, "taskset", "-c", options.cores, *command])
    if first.returncode or second.returncode:
        raise PoyoError("a measurement has failed; its reason stands above.")


@dataclass
class Measured:
    """What the updates of all contenders have shown."""

    seconds: dict[str, np.ndarray]  # by contender
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # of spikes
    compiled: int = 0  # programs
    growth: float = 0.0  # MB
    unaccounted: int = 0  # spikes of some window that are neither in it nor counted


def measure(options: Latency) -> Measured:
    """Let all contenders update in turn."""
    pretrained, session = _model(options)
    contenders = {
        name: _contender(name, pretrained, session, options) for name in options.contenders
    }
    other = _peer(options.peer, pretrained.config.model)
    measured = Measured({name: np.full(options.updates, np.nan) for name in contenders})
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    print(_conditions(), flush=True)
    jax.monitoring.register_event_duration_secs_listener(listen)
    spikes = _spikes(session if options.session else None, options.hop)
    theirs: list[float] = []
    before = 0.0
    for number in range(-FIRST, options.updates):
        if number == 0:
            compiled.clear()
            before = _memory()
        hop = next(spikes)
        for name, update in contenders.items():
            taken = update(*hop)
            if number >= 0:
                measured.seconds[name][number] = taken
        if other and number >= 0 and number % PEER_TURN == 0:
            theirs += other.call()["seconds"]
        time.sleep(options.pause)
    measured.growth, measured.compiled = _memory() - before, len(compiled)
    if other:
        measured.seconds["torch_brain"] = np.array(theirs)
        other.close()
    for name, contender in contenders.items():
        if isinstance(contender, StreamUpdate):
            measured.counts[name] = asdict(contender.stream.state.counts)
            measured.unaccounted += contender.unaccounted
    return measured


def report(measured: Measured, options: Latency) -> None:
    """Print the table, draw the picture, and raise PoyoError if a promise is broken."""
    print(_table(measured.seconds))
    print(
        f"programs compiled: {measured.compiled}; growth of memory: {measured.growth:.1f} MB;"
        f" spikes that are not accounted for: {measured.unaccounted}"
    )
    for name, counts in measured.counts.items():
        print(f"{name}: {', '.join(f'{key} {count}' for key, count in counts.items())}")
    if options.picture:
        _draw(measured.seconds, options.picture)
    if measured.compiled or measured.growth > MOST_GROWTH or measured.unaccounted:
        raise PoyoError("a promise is broken: the line below the table tells which.")


def _model(options: Latency) -> tuple[Pretrained, Session]:
    if options.model and options.session:
        return load(options.model), Session.open(options.session)
    session = Session.from_arrays(
        [0.0, 10.0], [0, 1], range(UNITS), [0.0, 10.0], np.zeros((2, 2)), session_id="one"
    )
    return untrained(Config(model=PRESETS[options.preset]().model), session), session


def _peer(python: str | None, model: ModelConfig) -> Contender | None:
    """torch_brain with a model of the same size, which decodes whole windows."""
    return peer(python, {"what": "window", "model": sizes(model)}) if python else None


def _contender(
    name: str, pretrained: Pretrained, session: Session, options: Latency
) -> "Update | StreamUpdate":
    """A warm decoder as a timed update."""
    length = pretrained.config.model.window_length
    lags = tuple(np.linspace(0, options.hop, options.queries, endpoint=False).tolist())
    if name == "window":
        most = session.max_spikes(length) if options.session else int(1.15 * SPIKES * length)
        decoder = WindowDecoder(pretrained, session)
        decoder.warm_up(num_spikes=most, num_queries=len(lags))
        return _window_update(decoder, length, lags)
    settings = {}
    if name != "jax":
        kind, _, threads = name.partition("_")
        settings = {"threads": int(threads), "bfloat16": kind == "bfloat16", "back_end": "native"}
    return StreamUpdate(StreamDecoder(pretrained, session, options.hop, lags, **settings))


class StreamUpdate:
    """A warm stream whose updates are timed, and whose spikes are counted."""

    def __init__(self, stream: StreamDecoder):
        stream.warm_up()
        self.stream, self.unaccounted = stream, 0
        hops = math.ceil(stream.engine.window_length / stream.hop) + 1
        self._pushed: deque[np.ndarray] = deque(maxlen=hops)

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> float:
        begin = time.perf_counter()
        self.stream.push(times, units)
        decoded = self.stream.predict(now)
        taken = time.perf_counter() - begin
        self._pushed.append(times)
        start = now - self.stream.engine.window_length
        expected = sum(int(np.count_nonzero(hop >= start)) for hop in self._pushed)
        if not decoded.counts.dropped:
            self.unaccounted += abs(expected - decoded.num_spikes)
        self.stream.prepare(now + self.stream.hop)
        return taken


def _window_update(decoder: WindowDecoder, length: float, lags: tuple) -> Update:
    """A decoder of single windows, whose spikes the caller keeps."""
    queries = length - np.array(lags)
    kept: list[np.ndarray] = [np.zeros(0), np.zeros(0, int)]

    def update(now: float, times: np.ndarray, units: np.ndarray) -> float:
        begin = time.perf_counter()
        kept[:] = np.concatenate([kept[0], times]), np.concatenate([kept[1], units])
        inside = (kept[0] >= now - length) & (kept[0] < now)
        kept[:] = kept[0][inside], kept[1][inside]
        decoder(kept[0] - (now - length), kept[1], queries)
        return time.perf_counter() - begin

    return update


def _spikes(session: Session | None, hop: float) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Times of updates, and the spikes of the hops before them, without end."""
    rng, number = np.random.default_rng(0), 0
    start, length = (0.0, np.inf) if session is None else _domain(session)
    while True:
        now, number = hop * (number + 1), number + 1
        if session is None:
            count = rng.poisson(SPIKES * hop)
            yield now, np.sort(rng.uniform(now - hop, now, count)), rng.integers(0, UNITS, count)
            continue
        at = (now - hop) % (length - hop)
        times, units = session.spikes_between(start + at, start + at + hop)
        yield now, times - (start + at) + now - hop, units


def _domain(session: Session) -> tuple[float, float]:
    return float(session.domain.starts[0]), float(
        session.domain.ends[-1] - session.domain.starts[0]
    )


def _conditions() -> str:
    """Scheduling and load under which the figures arise."""
    policies = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    policy = policies.get(os.sched_getscheduler(0), "another")
    cores = sorted(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"scheduling: {policy}; cores {cores}; load {load:.1f} (of {os.cpu_count()} cores)"


def _table(seconds: dict[str, np.ndarray]) -> str:
    names = ["min", *(f"p{percentile:g}" for percentile in PERCENTILES), "worst"]
    lines = [f"| contender, ms | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, values in seconds.items():
        cells = [values.min(), *np.percentile(values, PERCENTILES), values.max()]
        lines.append(f"| {name} | {' | '.join(f'{1e3 * cell:.2f}' for cell in cells)} |")
    return "\n".join(lines)


def _memory() -> float:
    """Memory of this process now in MB, without the mapped pages of files such as the recording."""
    _, resident, of_files, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _draw(seconds: dict[str, np.ndarray], path: Path) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "the picture needs matplotlib; run: pip install poyo_jax[plots], or leave it out."
        ) from error
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for name, values in seconds.items():
        ordered = np.sort(values)[::-1]
        axes.loglog(1e3 * ordered, np.arange(1, len(ordered) + 1) / len(ordered), label=name)
    axes.set_xlabel("latency of an update, ms")
    axes.set_ylabel("share of updates that take longer")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
