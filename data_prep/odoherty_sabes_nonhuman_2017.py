"""O'Doherty, Makin, Sabes et al.: monkeys Indy and Loco reach to successive targets on a grid.

Source: Zenodo 3854034 (MATLAB 7.3 files, which are HDF5); the rules are those of brainsets 0.2.1
and 0.2.2.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from data_prep import rules
from data_prep.catalogue import CatalogueEntry, ZenodoRecord
from poyo_jax import Session
from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.io.nodes import data_node, domain_of, interval_node, regular_node, units_node
from poyo_jax.errors import RawDataError

NAME = "odoherty_sabes_nonhuman_2017"
FILE_NAME = re.compile(r"(indy|loco)_(\d{4})(\d{2})(\d{2})_\d{2}")
# Of the spacing of samples: in s, and the relative tolerance and spread.
PERIOD, TOLERANCE, MAX_SPREAD = 0.004, 1e-4, 1e-3
MAX_SORTED = 11
SLOW, LONG = 10.0, 10.0  # mm/s, seconds: what counts as no movement
NUM_BLOCKS, NUM_TRAIN = 10, 8
FIXED_BLOCKS = {"train": [0, 2, 3, 4, 5, 6, 7, 9], "valid": [1], "test": [8]}


def convert(path: Path, waveforms: bool = True) -> Session:
    """Convert a raw file to a session.

    `waveforms` keeps the waveform of every spike; waveforms are most of the file.

    Raises RawDataError when the file does not have the layout of the data set.
    """
    if not (match := FILE_NAME.fullmatch(path.stem)):
        raise RawDataError(
            f"{path.name}: subject and date cannot be told from this name; expected"
            " indy_YYYYMMDD_NN.mat or loco_YYYYMMDD_NN.mat, as the archive calls it."
        )
    with open_raw(path) as raw:
        return Session(_tree(raw, match[1], "-".join(match.groups()[1:]), waveforms))


def _tree(raw: RawFile, subject: str, date: str, waveforms: bool) -> Node:
    times = (
        raw.times("t") if raw.data_set("t").ndim == 1 else raw.array("t", (1, None), finite=True)[0]
    )
    rate = _sampling_rate(raw, times)
    cursor, speed = _cursor(raw, times, rate)
    domain = domain_of(cursor)
    still = _no_movement(domain, speed, rate)
    spikes, units = _spikes_and_units(raw, waveforms)
    stem = raw.path.stem
    return data_node(
        {
            "brainset": _brainset(),
            "subject": data_node(id=subject, species="MACACA_MULATTA"),
            **rules.session_nodes(stem, date, stem[:-3], "UTAH_ARRAY_SPIKES"),
            "domain": interval_node(domain),
            "spikes": spikes,
            "units": units,
            "cursor": cursor,
            "finger": _finger(raw, times, rate),
            "no_movement_segments": interval_node(still),
            **{
                f"{name}_domain": interval_node(split)
                for name, split in _splits(raw, domain, still).items()
            },
        }
    )


def _brainset() -> Node:
    return rules.brainset_node(
        NAME,
        origin="583331",
        derived="2.0.0",
        source="https://zenodo.org/record/583331",
        description=(
            "The behavioral task was to make self-paced reaches to targets arranged in a grid (e.g."
            " 8x8) without gaps or pre-movement delay intervals. One monkey reached with the right"
            " arm (recordings made in the left hemisphere)The other reached with the left arm"
            " (right hemisphere). In some sessions recordings were made from both M1 and S1 arrays"
            " (192 channels); in most sessions M1 recordings were made alone (96 channels)."
        ),
    )


# --- behaviour


def _sampling_rate(raw: RawFile, times: np.ndarray) -> float:
    if len(times) < 2:
        raise raw.wrong("t", f"of {len(times)} samples", "two samples at least")
    steps = np.diff(times)
    worst = int(np.argmax(np.abs(steps - PERIOD)))
    if not abs(steps[worst] - PERIOD) < TOLERANCE:
        raise raw.wrong(
            f"t[{worst + 1}] - t[{worst}]", f"{steps[worst]:g} s", f"{PERIOD} s, to {TOLERANCE} s"
        )
    median = np.median(steps)
    if (spread := (steps.max() - steps.min()) / median) > MAX_SPREAD:
        raise raw.wrong(
            "t", f"spaced unevenly, by {spread:.2%}", f"even samples, to {MAX_SPREAD:.1%}"
        )
    return float(1 / median)


def _cursor(raw: RawFile, times: np.ndarray, rate: float) -> tuple[Node, np.ndarray]:
    """The cursor's series, and its speed in mm/s, [samples]."""
    position = raw.array("cursor_pos", (2, len(times))).T
    velocity = rules.gradient(position, times)
    node = regular_node(
        rate, times[0], pos=position, vel=velocity, acc=rules.gradient(velocity, times)
    )
    return node, np.linalg.norm(velocity, axis=1)


def _finger(raw: RawFile, times: np.ndarray, rate: float) -> Node:
    """Return position and velocity of the finger in cm, and the sensor's orientation if known."""
    samples = raw.array("finger_pos", (None, len(times))).T
    if samples.shape[1] not in (3, 6):
        raise raw.wrong("finger_pos", f"of {samples.shape[1]} columns", "3 or 6 columns")
    columns = {"pos_3d": samples[:, :3], "vel_3d": rules.gradient(samples[:, :3], times)}
    if samples.shape[1] == 6:
        columns |= {
            "orientation": samples[:, 3:],
            "angular_vel": rules.gradient(samples[:, 3:], times),
        }
    return regular_node(rate, times[0], **columns)


def _no_movement(domain: Intervals, speed: np.ndarray, rate: float) -> Intervals:
    times = domain.starts[0] + np.arange(len(speed)) / rate
    return rules.mask_intervals(times, speed < SLOW).longer_than(LONG)


def _splits(raw: RawFile, domain: Intervals, still: Intervals) -> dict[str, Intervals]:
    """Divide the time with movement into ten blocks: eight train, one is valid, one is test.

    The test block is the one with most movement. Without pauses the blocks are FIXED_BLOCKS.
    """
    moving = domain.subtract(still).longer_than(LONG) if len(still) else domain
    if not len(moving):
        raise raw.wrong(
            "cursor_pos",
            f"at rest but for pieces of {LONG:g} s or less",
            "longer movement to split",
        )
    edges = np.linspace(moving.starts[0], moving.ends[-1], NUM_BLOCKS + 1)
    blocks = Intervals(edges[:-1], edges[1:])
    if not len(still):
        return {
            name: Intervals(blocks.starts[rows], blocks.ends[rows])
            for name, rows in FIXED_BLOCKS.items()
        }
    covered = [
        Intervals(*np.split(np.array(block), 2)).intersect(moving).duration for block in blocks
    ]
    table = np.stack(
        [np.arange(NUM_BLOCKS), np.array(covered) / (blocks.ends - blocks.starts)], axis=1
    )
    np.random.default_rng(rules.SEED).shuffle(table)
    order = table[np.argsort(table[:, 1], kind="stable"), 0].astype(int)
    rows_of = {"train": order[:NUM_TRAIN], "valid": order[NUM_TRAIN:-1], "test": order[-1:]}
    return {
        name: (
            Intervals(blocks.starts[np.sort(rows)], blocks.ends[np.sort(rows)])
            .subtract(still)
            .longer_than(LONG)
        )
        for name, rows in rows_of.items()
    }


# --- units


@dataclass(frozen=True)
class _Cell:
    """HDF5 data sets of a unit: its spikes, [1, spikes], and its waveforms, [48, spikes]."""

    channel: str
    sort: int
    spikes: h5py.Dataset
    waveforms: h5py.Dataset

    @property
    def name(self) -> str:
        return f"{self.channel}/{f'sorted_{self.sort:02d}' if self.sort else 'unsorted'}"


def _spikes_and_units(raw: RawFile, waveforms: bool) -> tuple[Node, Node]:
    cells = _cells(raw)
    counts = np.array([cell.spikes.size for cell in cells])
    times = np.concatenate(
        [_numbers(raw, cell.spikes, f"spikes of {cell.name}").ravel() for cell in cells]
    )
    if not np.isfinite(times).all():
        raise raw.wrong("spikes", "NaN somewhere", "finite times")
    order = np.argsort(times, kind="stable")
    spikes = nwb.spikes_node(times[order], np.repeat(np.arange(len(counts)), counts)[order])
    shapes = [_numbers(raw, cell.waveforms, f"wf of {cell.name}").T for cell in cells]
    if waveforms:
        spikes.members["waveforms"] = np.concatenate(shapes)[order]
    parts = [cell.channel.split(" ", 1) for cell in cells]
    units = units_node(
        [cell.name for cell in cells],
        unit_number=np.array([cell.sort for cell in cells]),
        count=counts,
        area_name=np.array([part[0] for part in parts], object),
        channel_number=np.array([part[-1] for part in parts], object),
        channel_name=np.array([cell.channel for cell in cells], object),
        average_waveform=np.stack([shape.mean(axis=0) for shape in shapes]),
    )
    return spikes, units


def _numbers(raw: RawFile, data_set: h5py.Dataset, field: str) -> np.ndarray:
    if data_set.dtype.kind not in "iuf":
        raise raw.wrong(field, f"of type {data_set.dtype}", "numbers")
    return data_set[()].astype(np.float64, copy=False)


def _cells(raw: RawFile) -> list[_Cell]:
    """List every unit with spikes.

    The unsorted units of all channels come first, then the first sorted ones, and so on.
    """
    spikes, waveforms = _references(raw, "spikes"), _references(raw, "wf")
    names = (
        raw.at(reference, "chan_names") for reference in _references(raw, "chan_names").ravel()
    )
    channels = ["".join(map(chr, name[()].ravel())) for name in names]
    if spikes.shape != waveforms.shape or spikes.shape[0] > MAX_SORTED:
        found = f"cells of shape {spikes.shape}, and wf of {waveforms.shape}"
        raise raw.wrong(
            "spikes", found, f"the same shape, of {MAX_SORTED} units per channel at most"
        )
    if spikes.shape[1] != len(channels):
        raise raw.wrong(
            "spikes",
            f"given for {spikes.shape[1]} channels",
            f"one column for each of {len(channels)} names",
        )
    cells = []
    for sort, channel in np.ndindex(spikes.shape):
        cell = _Cell(
            channels[channel],
            sort,
            raw.at(spikes[sort, channel], "spikes"),
            raw.at(waveforms[sort, channel], "wf"),
        )
        if cell.spikes.attrs.get("MATLAB_empty", 0) or not cell.spikes.size:
            continue
        if cell.waveforms.ndim != 2 or cell.waveforms.shape[1] != cell.spikes.size:
            found = f"of shape {cell.waveforms.shape} with {cell.spikes.size} spikes"
            raise raw.wrong(f"wf of {cell.name}", found, "one waveform per spike")
        cells.append(cell)
    if not cells:
        raise raw.wrong("spikes", "empty in every cell", "one unit with spikes at least")
    return cells


def _references(raw: RawFile, field: str) -> np.ndarray:
    data_set = raw.data_set(field)
    if data_set.ndim != 2 or h5py.check_ref_dtype(data_set.dtype) is not h5py.Reference:
        raise raw.wrong(
            field, f"of type {data_set.dtype} and shape {data_set.shape}", "a cell array"
        )
    return data_set[()]


CATALOGUE = (
    CatalogueEntry(
        name=NAME,
        title="O'Doherty, Makin, Sabes et al.: monkeys Indy and Loco, self-paced reaches",
        archive=ZenodoRecord("3854034", (".mat",)),
        licence="CC-BY-4.0",
        convert=convert,
        raw_files=("indy_*.mat", "loco_*.mat"),
        num_files=47,
        raw_gigabytes=22.0,
        processed_gigabytes=26.0,
    ),
)
