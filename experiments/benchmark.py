"""Speed and memory of a training step and of inference, alone or interleaved with torch_brain's.

    python experiments/benchmark.py --what train
    python experiments/benchmark.py --what train --peer PEER/bin/python      # tests/golden/README.md makes PEER

Every contender runs in a process of its own and takes turns, one call each, so that a busy machine slows all alike; the
first round is discarded. The ratio of minima is the robust figure. Windows are simulated: 60 sessions of 30 to 300
units, 500 to 8000 tokens per window; `--fixed-tokens 2000` makes all windows equal, so that the peer pads nothing.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from benchmark_data import measure_data
from benchmark_windows import draw_windows

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Speed and memory of a training step and of inference."""

    what: Literal["train", "inference", "pipeline", "data"] = "train"
    """A training step (forward, backward, SparseLamb), predictions, batches from sessions, or preparing and opening
    sessions."""
    preset: Literal["poyo_single", "poyo_1", "demo"] = "poyo_single"
    """Model to run, with its dropout."""
    batch_size: int = 32
    """Windows of a call."""
    rounds: int = 8
    """Turns of every contender that count."""
    fixed_tokens: int | None = None
    """Give every window so many tokens, instead of 500 to 8000."""
    microbatch_windows: int | None = None
    """Windows that pass the processor at the same time; the preset's by default."""
    cpu_devices: int = 1
    """Devices that the CPU is split into, for our side."""
    peer: str | None = None
    """Python of an environment with torch and torch_brain, to run interleaved."""
    vocabulary: int | None = None
    """Compare a unit table with so many rows with one of 10,000."""
    num_sessions: int = 10_000
    """Sessions to open, of `--what data`."""
    json: Path | None = None
    """File for the figures."""


def main(arguments: list[str] | None = None) -> None:
    options = tyro.cli(Benchmark, args=arguments, description=__doc__)
    measures = {"pipeline": measure_pipeline, "data": lambda options: measure_data(options.num_sessions)}
    figures = measures.get(options.what, race)(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def race(options: Benchmark) -> dict:
    """Run all contenders in turn, print the table, return the figures."""
    from poyo_jax.presets import PRESETS

    preset = PRESETS[options.preset]()
    settings = {
        "what": options.what,
        "model": asdict(preset.model),
        "batch_size": options.batch_size,
        "fixed_tokens": options.fixed_tokens,
        "num_batches": 2,
        "microbatch_windows": options.microbatch_windows or preset.run.microbatch_windows,
        "rows_per_group": preset.run.rows_per_group,
        "cpu_devices": options.cpu_devices,
    }
    ours = [sys.executable, str(HERE / "benchmark_ours.py")]
    sizes = (
        {"poyo_jax": None} if options.vocabulary is None else {"10k units": 10_000, "many units": options.vocabulary}
    )
    contenders = {name: Contender(ours, settings | {"vocabulary": size}) for name, size in sizes.items()}
    if options.peer:
        settings = settings | {"sparse_lamb": str(sparse_lamb_file(options.peer))}
        contenders["torch_brain"] = Contender([options.peer, str(HERE / "benchmark_peer.py")], settings)
    rounds = [{name: one.call() for name, one in contenders.items()} for _ in range(options.rounds + 1)][1:]
    for one in contenders.values():
        one.close()
    return summarise(options, contenders, rounds)


def sparse_lamb_file(peer: str) -> Path:
    """torch_brain 0.1.2's optimiser, which lies beside the environment of the peer (tests/golden/README.md)."""
    return Path(peer).absolute().parent.parent / "sparse_lamb" / "torch_brain" / "optim.py"


class Contender:
    """A process that makes one call per line it reads."""

    def __init__(self, command: list[str], settings: dict):
        self._process = subprocess.Popen(
            [*command, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin and self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        self.start = self._read()

    def call(self) -> dict:
        self._input.write("\n")
        self._input.flush()
        return self._read()

    def close(self) -> None:
        self._input.close()
        self._process.wait()
        self._output.close()

    def _read(self) -> dict:
        line = self._output.readline()
        if not line:
            raise SystemExit(f"a contender stopped with status {self._process.wait()}; its message stands above.")
        return json.loads(line)


def summarise(options: Benchmark, contenders: dict[str, Contender], rounds: list[dict]) -> dict:
    tokens = np.mean([window_tokens(options, seed) for seed in range(2)])
    figures = {"options": {key: str(value) for key, value in asdict(options).items()}, "contenders": {}}
    print(f"{options.what}, {options.preset}, batch {options.batch_size}, {tokens:.0f} tokens per batch")
    print(f"{'':12}{'min s':>8}{'median s':>10}{'windows/s':>11}{'tokens/s':>10}{'peak GB':>9}{'first call s':>14}")
    for name, one in contenders.items():
        seconds = np.array([turn[name]["seconds"] for turn in rounds])
        peak = max(turn[name]["peak_gb"] for turn in rounds)
        figures["contenders"][name] = {"seconds": seconds.tolist(), "peak_gb": peak, **one.start}
        rates = f"{options.batch_size / seconds.min():11.1f}{tokens / seconds.min():10.0f}"
        print(
            f"{name:12}{seconds.min():8.3f}{np.median(seconds):10.3f}{rates}{peak:9.2f}{one.start['first_call']:14.1f}"
            + (f"   padding {one.start['padding']:.0%}, {one.start['shapes']} shapes" if "padding" in one.start else "")
        )
    if options.vocabulary:
        few, many = (min(figures["contenders"][name]["seconds"]) for name in ("10k units", "many units"))
        figures["ratio_of_minima"] = many / few
        print(f"a step with {options.vocabulary:,} units takes {many / few:.2f} x one with 10,000 (ratio of minima)")
    if "torch_brain" in contenders:
        ours, theirs = ([turn[name]["seconds"] for turn in rounds] for name in ("poyo_jax", "torch_brain"))
        figures["ratio_of_minima"] = min(theirs) / min(ours)
        figures["median_of_ratios"] = float(np.median(np.array(theirs) / np.array(ours)))
        print(
            f"poyo_jax is {figures['ratio_of_minima']:.2f} x as fast (ratio of minima; median of same-round ratios "
            f"{figures['median_of_ratios']:.2f})"
        )
    return figures


def window_tokens(options: Benchmark, seed: int) -> int:
    windows = draw_windows(options.batch_size, seed, options.fixed_tokens)
    return sum(len(window.spike_units) + 2 * window.num_units for window in windows)


def measure_pipeline(options: Benchmark) -> dict:
    """Windows per second of the input pipeline alone, from session files, one thread ahead."""
    from poyo_jax import open_sessions
    from poyo_jax.config import DataConfig, UnitDropoutConfig
    from poyo_jax.data.arrange import padding_fraction
    from poyo_jax.data.pipeline import TrainBatches, prefetch
    from poyo_jax.data.readout import default_readout
    from poyo_jax.data.simulate import simulate_study
    from poyo_jax.data.tokens import ModelSession
    from poyo_jax.data.vocab import Vocab

    dropout = UnitDropoutConfig(min_units=30, mode_units=100, max_units=300)
    with tempfile.TemporaryDirectory() as folder:
        for session in simulate_study(0, 12, num_units=(60, 160), duration=300.0):
            session.save(Path(folder) / f"{session.session_id}.h5")
        sessions = open_sessions(folder)
        units, names = Vocab(name for s in sessions for name in s.unit_names), Vocab(s.id for s in sessions)
        sources = [ModelSession.build(s, default_readout(s), units, names, s.split("train")) for s in sessions]
        config = DataConfig(batch_size=options.batch_size, unit_dropout=dropout)
        batches = prefetch(TrainBatches(sources, config, 1.0, num_steps=100 * options.rounds))
        padding = padding_fraction(next(batches))
        counts = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            for _ in range(50):
                padding = 0.9 * padding + 0.1 * padding_fraction(next(batches))
            counts.append(50 * options.batch_size / (time.perf_counter() - began))
    print(f"pipeline: {max(counts):.0f} windows/s at best, {np.median(counts):.0f} in median; padding {padding:.0%}")
    return {"windows_per_second": counts, "padding": padding}


if __name__ == "__main__":
    main()
