"""Units, trials and splits of the sets of the Neural Latents Benchmark."""

from dataclasses import dataclass

import numpy as np

from data_prep import rules
from poyo_jax.data.derive import BENCHMARK_SHARES
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, interval_node, table_node, units_node

NAME = "pei_pandarinath_nlb_2021"
BEHAVIOUR = "processing/behavior"
RENAMED = {"start_time": "start", "stop_time": "end", "split": "split_indicator"}


@dataclass(frozen=True)
class Source:
    """Origin of a session."""

    dandiset: str  # id and version of the Dandiset
    description: str
    session_id: str


def tree(raw: RawFile, source: Source, decimals: int | None = None) -> Node:
    """A session without behaviour and splits, which the files of the benchmark's test part lack.

    Trials that overlap are rounded to `decimals` first, since their times carry float noise.
    """
    date = nwb.recording_date(raw)
    recording = f"{nwb.subject_id(raw)}_{date.replace('-', '')}"
    times, counts = nwb.spikes_by_unit(raw)
    spikes = nwb.spikes_node(*nwb.sort_spikes(times, counts))
    trials = _trials(raw, decimals)
    rows = rules.trial_intervals(raw, trials["start"], trials["end"], "trials")
    recorded = Intervals.from_pairs([(times.min(), times.max())] if len(times) else [])
    return data_node(
        {
            "brainset": rules.brainset_node(
                NAME,
                origin=f"dandi/{source.dandiset}",
                derived="2.0.0",
                source=f"https://dandiarchive.org/dandiset/{source.dandiset.split('/')[0]}",
                description=source.description,
            ),
            **rules.session_nodes(source.session_id, date, recording, "UTAH_ARRAY_SPIKES"),
            "domain": interval_node(recorded.union(rows)),
            "spikes": spikes,
            "units": units_node(
                nwb.unit_ids(raw, len(counts)), unit_number=np.arange(len(counts)), count=counts
            ),
            "trials": table_node(trials),
        }
    )


def _trials(raw: RawFile, decimals: int | None) -> rules.Table:
    columns = rules.trial_columns(raw, ("start_time", "stop_time"), ("split",))
    rules.refuse_nan(raw, columns, ("start_time", "stop_time"))
    trials = {RENAMED.get(name, name): column for name, column in columns.items()}
    if decimals is not None and (trials["start"][1:] < trials["end"][:-1]).any():
        trials |= {name: np.round(trials[name], decimals) for name in ("start", "end")}
    split = trials["split_indicator"]
    return trials | {
        "train_mask_nwb": np.asarray(split == "train", bool),
        "test_mask_nwb": np.asarray(split == "val", bool),
    }


def splits(raw: RawFile, tree: Node) -> dict[str, Node]:
    """The benchmark's training trials become train and valid, its validation trials test."""
    trials = tree.group("trials")
    columns = {name: trials.column(name) for name in trials.members}
    own, test = (np.flatnonzero(columns[name]) for name in ("train_mask_nwb", "test_mask_nwb"))
    if not len(own):
        raise raw.wrong(
            f"{nwb.TRIALS}/split",
            f"'train' for none of {len(columns['start'])} trials",
            "one at least",
        )
    train, valid = (own[rows] for rows in rules.permutation_split(len(own), BENCHMARK_SHARES))
    parts = {"train": train, "valid": valid, "test": test}
    return {
        f"{name}_domain": table_node(rules.rows_of(columns, rows)) for name, rows in parts.items()
    }


def intervals_around(raw: RawFile, tree: Node, column: str, around: tuple[float, float]) -> Node:
    """An interval around a time of every trial."""
    trials = tree.group("trials")
    if column not in trials.members or trials.column(column).dtype.kind not in "iuf":
        raise raw.wrong(
            f"{nwb.TRIALS}/{column}", "missing, or no numbers", "a time for every trial"
        )
    times = trials.column(column)
    return table_node({"start": times + around[0], "end": times + around[1]})
