"""What a training step costs on accelerators, from programs compiled for them: docs/scaling.md.

    $ python -m experiments.benchmarks.topologies --presets poyo_1_fast --on v5e:4x4 h200:8

Nothing runs on an accelerator: these are bounds. Each program is compiled in one to five minutes.
The figures are added to a JSON file, in which those of the same preset, topology and micro-batch
are replaced; all of the file is printed as a table.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poyo_jax.aot.estimate import Estimate, collective_seconds, estimate
from poyo_jax.aot.topology import parse
from poyo_jax.cli.program import run_command
from poyo_jax.presets import PRESETS

RESULTS = Path(__file__).parent.parent / "results" / "topologies.json"
KEY = ("preset", "topology", "microbatch")


@dataclass(frozen=True, kw_only=True)
class Topologies:
    """Compile presets for topologies and tabulate what bounds their steps."""

    presets: tuple[str, ...] = ()
    """Presets to compile; none prints what the file holds."""
    on: tuple[str, ...] = ("v5e:4x4",)
    """Topologies to compile for."""
    microbatch: tuple[int, ...] = ()
    """Sizes of the micro-batch; none takes the one that is chosen automatically."""
    out: Path = RESULTS
    """File of the figures."""


def main(arguments: list[str] | None = None) -> None:
    run_command(work, Topologies, arguments, description=__doc__)


def work(options: Topologies) -> None:
    for preset in options.presets:
        for name in options.on:
            for size in options.microbatch or (None,):
                add(options.out, row_of(preset, name, size))
    print(table(read(options.out)))


def row_of(preset: str, name: str, microbatch: int | None) -> dict[str, Any]:
    """Compile a preset for a topology."""
    config = PRESETS[preset]()
    if microbatch is not None:
        config = replace(config, run=replace(config.run, microbatch_windows=microbatch))
    return {"preset": preset} | figures(estimate(preset, config, parse(name)))


def figures(made: Estimate) -> dict[str, Any]:
    """What a compiled step tells, as numbers: bytes, seconds, counts."""
    cost, chip = made.cost, made.topology.chip
    collectives = [
        {
            "kind": each.kind,
            "times": each.times,
            "bytes": each.size,
            "chips": each.group,
            "seconds": collective_seconds(each, chip),
            "hidden": each.hidden,
        }
        for each in cost.collectives
    ]
    parts: dict[str, float] = {}
    for each in cost.operations:
        parts[each.part] = parts.get(each.part, 0.0) + each.times * each.traffic
    return {
        "topology": made.topology.name,
        "microbatch": made.microbatch,
        "chips": made.num_devices,
        "windows": made.config.data.batch_size,
        "tokens": made.workload.tokens,
        "rows": made.shape.rows,
        "memory": made.memory.total,
        "temporary": made.memory.temporary,
        "traffic": cost.traffic,
        "padding": cost.padding,
        "traffic_by_part": parts,
        "operations": cost.count,
        "flops": cost.flops,
        "needed_flops": made.needed_flops,
        "attention_kernels": cost.attention_kernels,
        "collectives": collectives,
        "bounds": made.bounds,
        "waiting": made.waiting,
        "step_seconds": made.step_seconds,
        "bound_by": made.bound_by,
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none if it does not exist."""
    return json.loads(path.read_text()) if path.exists() else []


def add(path: Path, row: dict[str, Any]) -> None:
    """Write a row to a file, in place of one of the same key."""
    rows = [each for each in read(path) if any(each[name] != row[name] for name in KEY)]
    rows = sorted([*rows, row], key=lambda each: tuple(str(each[name]) for name in KEY))
    path.write_text(json.dumps(rows, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table of Markdown."""
    lines = [
        "| preset | topology | micro-batch | memory GB | traffic GB | operations | GFLOP (needed) |"
        " collectives MB | step ms, at least | bounded by | windows/s, at most |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sent = sum(each["times"] * each["bytes"] for each in row["collectives"])
        cells = (
            row["preset"],
            row["topology"],
            str(row["microbatch"]),
            f"{row['memory'] / 1e9:.1f}",
            f"{row['traffic'] / 1e9:.1f}",
            f"{row['operations']:,}",
            f"{row['flops'] / 1e9:,.0f} ({row['needed_flops'] / 1e9:,.0f})",
            f"{sent / 1e6:.1f}",
            f"{1e3 * row['step_seconds']:.1f}",
            row["bound_by"],
            f"{row['windows'] / row['step_seconds']:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
