"""Find recordings of the monkey Indy whose electrodes stand in another order.

    $ python -m experiments.studies.electrodes sessions/
    $ python -m experiments.studies.electrodes sessions/ --mended mended/

Two of the 29 recordings, of 13 October 2016 and 24 January 2017, have the tuning of electrode 96 at
electrode 2, that of 95 at 1, that of 94 at 4, and so on, as if a connector had been turned round.
The tuning of the first one, on which models are pretrained, shows it. The firing rates of the units
alone, without labels, tell it of the other. The studies of these recordings use `in_one_order`.

The table has for every recording the correlation, over units, of rates and of tuning with the mean
of the recordings before it, as the file has the electrodes and with the connector turned round. It
is written to `electrodes.md` and its values to `electrodes.json`. With `--mended`, all recordings
are also written with their electrodes in one order, for studies that do not put them so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.studies.results import Cell, publish
from experiments.studies.sessions import with_spikes
from poyo_jax import Session
from poyo_jax.cli.options import Folder
from poyo_jax.cli.program import run_command

UNIT = re.compile(r"(ch|M1 )(\d+)(/.+)")  # electrode, from 1, between names of array and unit
NUM_ELECTRODES = 96


@dataclass(frozen=True, kw_only=True)
class Electrodes:
    """The order of electrodes in recordings of one monkey."""

    data: Folder
    """Folder with session files (*.h5), searched with its sub-folders."""
    workdir: Path = Path("runs/electrodes")
    """Folder for the table."""
    mended: Path | None = None
    """Folder for the recordings with electrodes in one order; by default they are not written."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(electrodes, Electrodes, arguments, description=__doc__)


def electrodes(options: Electrodes) -> None:
    from poyo_jax import open_sessions
    from poyo_jax.finetune import rate_agreement

    recordings = {session.session_id: session for session in open_sessions(options.data)}
    cells, before = [], []
    tunings: list[dict[str, np.ndarray]] = []
    ordered = in_one_order(recordings)
    if options.mended is not None:
        save(ordered, options.mended)
    for name, session in sorted(ordered.items()):
        ways = recordings[name], turned_round(recordings[name])
        if before:
            rates = [rate_agreement(way, before) for way in ways]
            tuning = [tuning_agreement(unit_tuning(way), tunings) for way in ways]
            cells.append({"session": name, "rates": rates, "tuning": tuning})
        before.append(session)
        tunings.append(unit_tuning(session))
    text = render(cells)
    publish(options.workdir / "electrodes", text, cells)
    print(text)


def save(recordings: Mapping[str, Session], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, session in recordings.items():
        session.save(folder / f"{name}.h5")


def in_one_order(recordings: Mapping[str, Session]) -> dict[str, Session]:
    """The recordings by name, with electrodes as in the first one; names sort by day.

    A recording is turned round if the rates of its units then agree better with those of the
    recordings before it. Recordings whose units do not name their electrodes stay as they are.
    """
    from poyo_jax.finetune import rate_agreement

    ordered: list[Session] = []
    for name in sorted(recordings):
        as_it_is = recordings[name]
        other_way = turned_round(as_it_is)
        if ordered and other_way is not as_it_is:
            candidates = (as_it_is, other_way)
            as_it_is = max(candidates, key=lambda session: rate_agreement(session, ordered))
        ordered.append(as_it_is)
    by_name = dict(zip(sorted(recordings), ordered, strict=True))
    return {name: by_name[name] for name in recordings}


def turned_round(session: Session) -> Session:
    """The session with the ids that its units have with the connector turned round.

    It is the same session where a unit does not name its electrode.
    """
    matches = [UNIT.fullmatch(unit) for unit in session.unit_ids]
    found = [match.groups() for match in matches if match]
    if len(found) < len(matches):
        return session
    names = [f"{array}{turned(int(electrode)):03d}{unit}" for array, electrode, unit in found]
    return with_spikes(session, session.spike_times[:], session.spike_units[:], names)


def turned(electrode: int) -> int:
    """Number, from 1, of an electrode behind the turned connector: pairs stand in reverse."""
    return ((NUM_ELECTRODES - electrode) ^ 1) + 1


def tuning_agreement(
    own: Mapping[str, np.ndarray], earlier: Sequence[Mapping[str, np.ndarray]]
) -> float:
    """Correlation of the units' tuning, at all lags, with the mean that their ids had earlier."""
    pairs = []
    for unit, tuning in own.items():
        known = [units[unit] for units in earlier if unit in units]
        if known:
            pairs.append((tuning, np.mean(known, axis=0)))
    now, then = zip(*pairs, strict=True)
    return float(np.corrcoef(np.ravel(now), np.ravel(then))[0, 1])


def unit_tuning(session: Session) -> dict[str, np.ndarray]:
    """Modulation of every unit's rate by the behaviour of the train split, by its id."""
    from poyo_jax.data.readout import default_readout
    from poyo_jax.tuning import tuning_features

    features = tuning_features(session, default_readout(session), session.split("train"))
    return dict(zip(session.unit_ids, features[:, 1:], strict=True))  # without the rate


def render(cells: Sequence[Cell]) -> str:
    """Markdown: a row for every recording after the first."""
    lines = [
        "| session | rates, as in the file | rates, turned round | tuning, as in the file | tuning,"
        " turned round |",
        "|---" * 5 + "|",
    ]
    for cell in cells:
        shown = " | ".join(f"{value:.2f}" for value in (*cell["rates"], *cell["tuning"]))
        lines.append(f"| {cell['session']} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
