"""Measure updates of streaming decoders, from the last spikes to the values.

    $ python -m experiments.benchmarks.real_time --updates 100000
    $ chrt -f 50 taskset -c 0,1 python -m experiments.benchmarks.real_time --updates 100000
    $ python -m experiments.benchmarks.real_time --model runs/monday --session sessions/monday.h5

The second command has priority over all other programs (SCHED_FIFO), on two cores. The contenders
take turns at the same spikes. Timed are `push` of the spikes of a hop and `predict`; `prepare`
follows in idle time. Prints percentiles in ms, what compiled, memory, and spikes that were lost.
"""

import os
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments.benchmarks.draw import SPIKES, UNITS
from experiments.benchmarks.latency import untrained
from poyo_jax import Pretrained, Session, StreamDecoder, WindowDecoder, load
from poyo_jax.cli.program import run_program
from poyo_jax.config import Config
from poyo_jax.errors import MissingDependencyError
from poyo_jax.presets import PRESETS
from poyo_jax.realtime import Stream

PERCENTILES = (50, 99, 99.9)
FIRST = 200  # updates that are not counted: caches fill

Update = Callable[[float, np.ndarray, np.ndarray], float]  # returns the seconds that it took


@dataclass(frozen=True, kw_only=True)
class RealTime:
    """Measure updates of streaming decoders, from the last spikes to the values."""

    preset: str = "poyo_single"
    """Preset of an untrained model, with 100 units and 1300 spikes a second."""
    model: str | None = None
    """A trained model in its place."""
    session: Path | None = None
    """A session that it knows; its spikes are replayed, over and over."""
    updates: int = 10_000
    """Updates of each contender."""
    hop: float = 0.05
    """Time between two updates, s."""
    queries: int = 5
    """Samples that an update decodes."""
    pause: float = 0.0
    """Real time between two updates, s."""
    contenders: tuple[str, ...] = ("window", "jax", "native_1", "native_2")
    """"window": WindowDecoder; "jax"; "native_1" to "native_8", threads; "bfloat16_1" and so on."""
    picture: Path | None = None
    """Write a histogram to this file."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_program(measure, tyro.cli(RealTime, args=arguments, description=__doc__))


def measure(options: RealTime) -> None:
    """Measure and print all contenders."""
    pretrained, session = _model(options)
    lags = tuple(np.linspace(0, options.hop, options.queries, endpoint=False).tolist())
    contenders = {}
    for name in options.contenders:
        contenders[name] = _contender(name, pretrained, session, options, lags)
    print(_conditions())
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    seconds = {name: np.zeros(options.updates) for name in contenders}
    jax.monitoring.register_event_duration_secs_listener(listen)
    spikes = _spikes(session if options.session else None, options.hop)
    for number in range(-FIRST, options.updates):
        if number == 0:
            compiled.clear()
            memory = _peak_memory()
        now, times, units = next(spikes)
        for name, (update, _) in contenders.items():
            taken = update(now, times, units)
            if number >= 0:
                seconds[name][number] = taken
        time.sleep(options.pause)
    grown = _peak_memory() - memory
    print(_table(seconds))
    print(f"programs compiled: {len(compiled)}; growth of memory: {grown:.1f} MB")
    for name, (_, stream) in contenders.items():
        if stream is not None:
            print(f"{name}: {stream.state.counts}")
    if options.picture:
        _draw(seconds, options.picture)


def _model(options: RealTime) -> tuple[Pretrained, Session]:
    if options.model and options.session:
        return load(options.model), Session.open(options.session)
    session = Session.from_arrays(
        [0.0, 10.0], [0, 1], range(UNITS), [0.0, 10.0], np.zeros((2, 2)), session_id="one"
    )
    return untrained(Config(model=PRESETS[options.preset]().model), session), session


def _contender(
    name: str,
    pretrained: Pretrained,
    session: Session,
    options: RealTime,
    lags: tuple[float, ...],
) -> tuple[Update, Stream | None]:
    """A warm decoder as a timed update."""
    hop, length = options.hop, pretrained.config.model.window_length
    if name == "window":
        most = session.max_spikes(length) if options.session else int(1.15 * SPIKES * length)
        decoder = WindowDecoder(pretrained, session)
        decoder.warm_up(num_spikes=most, num_queries=len(lags))
        return _window_update(decoder, length, lags), None
    settings = {}
    if name != "jax":
        kind, _, threads = name.partition("_")
        settings = {"threads": int(threads), "bfloat16": kind == "bfloat16", "back_end": "native"}
    stream = StreamDecoder(pretrained, session, hop, lags, **settings)
    stream.warm_up()

    def update(now: float, times: np.ndarray, units: np.ndarray) -> float:
        begin = time.perf_counter()
        stream.push(times, units)
        stream.predict(now)
        taken = time.perf_counter() - begin
        stream.prepare(now + hop)
        return taken

    return update, stream


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


def _spikes(session: Session | None, hop: float):
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


def _peak_memory() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
