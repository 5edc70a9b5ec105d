"""Compare POYO with a decoder that keeps its state, as POSSM does: causal R2 and latency.

    $ python -m experiments.studies.chunks sessions/ --sessions indy_20161206_02 indy_20161207_02

DATA holds session files. The first 70 % of each recording are for training, the next 10 % for
tuning, and the last 20 % for testing (the protocol "contiguous" of table2). Decoders are causal:
a sample is decoded from spikes up to 50 ms after it, at the end of its chunk. POYO (poyo_small)
decodes a window of two seconds anew with every chunk. The decoder of chunks (chunk_model.py) has
nothing but the new spikes and its state. Both learn from as many seconds of data, in as many steps.
The searched Wiener filter and GRU see no spikes after a sample.

The decoder of chunks is scored as a stream: from the first chunk of the recording to the last, with
the state that it keeps. After that, the updates of both are timed in turn, on the test split.

Each fit is a line of `results.jsonl`, written when it ends, and the same command continues with
those that are missing or failed. The table and its cells are written to `chunks.md` and
`chunks.json`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from experiments.studies import real_small
from experiments.studies.chunk_decoder import CHUNK, ChunkDecoder
from experiments.studies.results import (
    Cell,
    complete,
    means_by_session,
    paired_difference,
    publish,
)
from experiments.studies.table2 import DETERMINISTIC, contiguous
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command

if TYPE_CHECKING:
    from poyo_jax import Pretrained

ROWS = {
    "wiener": "Wiener filter",
    "gru": "GRU",
    "poyo": "POYO",
    "chunks": "Chunks and a kept state",
}
SKIPPED = 50  # updates before the first that is timed


@dataclass(frozen=True, kw_only=True)
class ChunkStudy:
    """Causal decoding by POYO and by a decoder that keeps its state."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    sessions: tuple[str, ...] | None = None
    """File names (without .h5) of the sessions to decode; by default all."""
    workdir: Path = Path("runs/chunks")
    """Folder for results and runs."""
    rows: tuple[Literal[tuple(ROWS)], ...] = tuple(ROWS)  # pyright: ignore[reportInvalidTypeForm]
    """Decoders."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the fits."""
    num_steps: int = 2000
    """Steps of POYO and of the decoder of chunks."""
    num_timed: int = 1000
    """Updates that are timed, of each of the two."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(chunk_study, ChunkStudy, arguments, description=__doc__)


def chunk_study(options: ChunkStudy) -> None:
    from poyo_jax import open_sessions

    opened = open_sessions(options.data, options.sessions)
    sessions = {session.session_id: contiguous(session) for session in opened}
    wanted = list(cells(options, list(sessions)))
    results = complete(
        options.workdir / "results.jsonl",
        wanted,
        key,
        lambda cell: fill(cell, sessions[cell["session"]], options),
    )
    found = [results[key(cell)] for cell in wanted]
    text = render(found)
    publish(options.workdir / "chunks", text, found)
    print(f"\n{text}")


def cells(options: ChunkStudy, names: Sequence[str]) -> Iterator[Cell]:
    """All fits, the first seed of every session first."""
    for seed, name, row in product(options.seeds, names, options.rows):
        if row in DETERMINISTIC and seed != options.seeds[0]:
            continue
        num_steps = options.num_steps if row in ("poyo", "chunks") else None
        yield {"row": row, "session": name, "seed": seed, "num_steps": num_steps}


def key(cell: Cell) -> tuple:
    return tuple(cell[name] for name in ("row", "session", "seed", "num_steps"))


def fill(cell: Cell, session: Session, options: ChunkStudy) -> Cell:
    """Causal test R2 of a decoder; of the one of chunks also how long updates take."""
    from poyo_jax.baselines import fit_baseline

    if cell["row"] in ("wiener", "gru"):
        found = fit_baseline(cell["row"], session, causal=True, seed=cell["seed"], progress=False)
        return {"r2": found.r2["test"]}
    folder = options.workdir / "runs" / "{session}-{seed}-{num_steps}".format(**cell)
    steps = [cell["num_steps"]]
    poyo = real_small.train_alone(session, folder, cell["seed"], steps)  # once for both
    if cell["row"] == "poyo":
        return {"r2": real_small.score_model(poyo, session, causal_step=CHUNK)}
    decoder = ChunkDecoder.train(session, cell["num_steps"], cell["seed"])
    scores = decoder.scores(("valid", "test"))
    timed = latencies(decoder, poyo, options.num_timed)
    return {"r2": scores["test"], "valid_r2": scores["valid"], **timed}


def latencies(decoder: ChunkDecoder, poyo: "Pretrained", num_timed: int) -> Cell:
    """Median and 99th percentile of the ms that updates take, of both in turn."""
    from poyo_jax import StreamDecoder

    session = decoder.recording.session
    windows = StreamDecoder(poyo, session, hop=CHUNK)
    windows.warm_up()
    start, stop = session.split("test").starts[0], session.split("test").ends[-1]
    taken: dict[str, list[float]] = {"poyo": [], "chunks": []}
    for number, (_, _, seconds) in enumerate(decoder.stream(start, stop)):
        begin = start + number * CHUNK
        spikes = session.spikes_between(begin, begin + CHUNK)
        began = time.perf_counter()
        windows.push(*spikes)
        windows.predict(begin + CHUNK)
        taken["poyo"].append(time.perf_counter() - began)
        taken["chunks"].append(seconds)
        windows.prepare()
        jax.block_until_ready(windows.state.window)  # or the next update would wait for it
        if number == SKIPPED + num_timed:
            break
    return {
        f"{name}_ms": [float(np.percentile(seconds[SKIPPED:], share)) * 1e3 for share in (50, 99)]
        for name, seconds in taken.items()
    }


# --- results


def render(found: Sequence[Cell]) -> str:
    """Markdown: mean test R2 over the seeds, the difference to POYO, latencies, what failed."""
    rows = list(dict.fromkeys(cell["row"] for cell in found))
    scores = {row: means_by_session(cell for cell in found if cell["row"] == row) for row in rows}
    names = list(dict.fromkeys(cell["session"] for cell in found))
    lines = [f"| decoder | {' | '.join(names)} | mean | minus POYO ± SE | ms, 50 % | ms, 99 % |"]
    lines.append("|---" * (len(names) + 5) + "|")
    for row in rows:
        entries = [f"{scores[row][name]:.3f}" if name in scores[row] else "" for name in names]
        mean = f"{np.mean([*scores[row].values()]):.3f}" if scores[row] else ""
        entries += [mean, difference(scores, row), *milliseconds(found, row)]
        lines.append(f"| {ROWS[row]} | {' | '.join(entries)} |")
    lines.append("")
    lines += ["- {row}, {session}: {error}".format(**cell) for cell in found if "error" in cell]
    return "\n".join(lines).rstrip()


def difference(scores: dict[str, dict[str, float]], row: str) -> str:
    """Mean difference to POYO over the sessions, and its standard error."""
    poyo = scores.get("poyo", {})
    gaps = [r2 - poyo[name] for name, r2 in scores[row].items() if name in poyo]
    return paired_difference(gaps) if row != "poyo" and gaps else ""


def milliseconds(found: Sequence[Cell], row: str) -> list[str]:
    """Mean over the fits of the median and of the 99th percentile of an update's ms."""
    timed = [cell[f"{row}_ms"] for cell in found if f"{row}_ms" in cell]
    return [f"{value:.2f}" for value in np.mean(timed, axis=0)] if timed else ["", ""]


if __name__ == "__main__":
    main()
