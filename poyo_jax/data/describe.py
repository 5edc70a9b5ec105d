"""Describe the content of an NWB file or a session file as a page of text."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np

from poyo_jax.data.importers import nwb
from poyo_jax.data.importers.nwb_series import candidates, rate_of
from poyo_jax.data.importers.raw_file import RawFile, open_raw
from poyo_jax.data.io.layout import read_tree
from poyo_jax.data.session import SPLITS, Session
from poyo_jax.errors import MissingDependencyError, RawDataError
from poyo_jax.files import local_path
from poyo_jax.words import counted

NWB_MEMBERS = ("units", "processing", "acquisition", "intervals")
INDENT = "  "


def describe(path: str | Path) -> str:
    """Describe the content of an NWB file or a session file.

    Raises RawDataError when the file is neither, or cannot be read.
    """
    path = local_path(path)
    with open_raw(path) as raw:
        if "object" in raw.file.attrs:
            return _session_page(path)
        if "nwb_version" in raw.file.attrs or any(map(raw.has, NWB_MEMBERS)):
            return _nwb_page(raw)
        raise RawDataError(
            f"{raw.path.name} is an HDF5 file, but neither NWB (no attribute nwb_version, nor any"
            f" of {', '.join(NWB_MEMBERS)}) nor a session (no attribute object); it holds"
            f" {', '.join(raw.file) or 'nothing'}. Use Session.from_arrays for other formats."
        )


def validate(path: str | Path) -> list[str]:
    """List the faults that pynwb's validator finds in an NWB file.

    The list is empty if there are none.

    Raises RawDataError when the file cannot be read, MissingDependencyError when there is no pynwb.
    """
    try:
        import pynwb
    except ImportError as error:
        raise MissingDependencyError(
            f"validating NWB files needs pynwb, which cannot be imported ({error}); run: pip"
            " install poyo_jax[data]"
        ) from error
    path = local_path(path)
    with open_raw(path):
        pass
    try:
        return [str(finding) for finding in pynwb.validate(path=str(path))]
    except Exception as error:  # the validator gives up in many ways on files that are far from NWB
        return [f"the validator gave up with {type(error).__name__}: {error}"]


# --- pages


def _nwb_page(raw: RawFile) -> str:
    targets = [
        (
            candidate.path,
            candidate.looks_like,
            _shape(candidate.shape),
            _rate(candidate.rate),
            _time(candidate.seconds),
            candidate.unit,
        )
        for candidate in candidates(raw)
    ]
    tables = raw.file.get("intervals")
    rows = []
    if isinstance(tables, h5py.Group):
        for name, table in tables.items():
            if isinstance(table, h5py.Group):
                rows.append((name, _count_rows(table), _columns(table)))
    date = "not given"
    if raw.has("session_start_time"):
        date = nwb.recording_date(raw)
    return _page(
        f"{raw.path.name}: NWB file",
        {
            "subject": [_subject(raw)],
            "date": [(date,)],
            "units": [_units(raw)],
            "candidate targets (pass the path of one, or its name)": targets,
            "intervals and their columns": rows,
        },
    )


def _session_page(path: Path) -> str:
    tree = read_tree(path)
    session = Session(tree, path)
    intervals = []
    for name, node in tree.walk():
        if node.kind == "Interval" and not name.endswith("domain"):
            rows = counted(len(node.column("start")), "row")
            duration = session.intervals(name).duration
            intervals.append((name, rows, _time(duration)))
    splits = []
    for name in SPLITS:
        if session.has_split(name):
            split = session.split(name)
            splits.append((name, *_intervals(split.duration, len(split))))
    spike_times = np.asarray(session.spike_times)
    return _page(
        f"{path.name}: session {session.id}",
        {
            "subject": [(session.subject_id or "not given",)],
            "units": [_spiking(len(session.unit_ids), spike_times)],
            "domain": [_intervals(session.domain.duration, len(session.domain))],
            "behaviour": [_behaviour(session, key) for key in session.behaviour_keys],
            "intervals": intervals,
            "splits": splits,
        },
    )


def _page(title: str, tables: dict[str, Sequence[tuple[str, ...]]]) -> str:
    lines = [title]
    for heading, rows in tables.items():
        lines += ["", heading]
        lines += [INDENT + line for line in _aligned(rows or [("none",)])]
    return "\n".join(lines)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Write rows as lines of text, each column as wide as its longest entry."""
    columns = zip(*rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for row in rows:
        entries = map(str.ljust, row, widths)
        yield "  ".join(entries).rstrip()


# --- entries


def _subject(raw: RawFile) -> tuple[str, ...]:
    fields = [f"general/subject/{name}" for name in ("subject_id", "species", "sex")]
    return tuple(raw.text(field) for field in fields if raw.has(field)) or ("not given",)


def _units(raw: RawFile) -> tuple[str, ...]:
    if not raw.has("units/spike_times"):
        return ("none",)
    times, counts = nwb.spikes_by_unit(raw)
    return _spiking(len(counts), np.sort(times))


def _spiking(num_units: int, times: np.ndarray) -> tuple[str, ...]:
    span = f"from {times[0]:g} s to {times[-1]:g} s" if len(times) else ""
    return counted(num_units, "unit"), counted(len(times), "spike"), span


def _behaviour(session: Session, key: str) -> tuple[str, ...]:
    behaviour = session.behaviour(key)
    rate = behaviour.sampling_rate
    if behaviour.timestamps is not None:
        steps = np.diff(np.asarray(behaviour.timestamps, np.float64))
        rate = rate_of(steps) if len(steps) else None
    return key, _shape(behaviour.samples.shape), _rate(rate)


def _columns(table: h5py.Group) -> str:
    names = [name for name in map(str, table) if not name.endswith("_index")]
    return ", ".join(name for name in names if name != "id")


def _count_rows(table: h5py.Group) -> str:
    starts = table.get("start_time")
    return counted(len(starts), "row") if isinstance(starts, h5py.Dataset) else "no start_time"


def _intervals(duration: float, count: int) -> tuple[str, ...]:
    return _time(duration), counted(count, "interval")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _rate(rate: float | None) -> str:
    return "irregular" if rate is None else f"{rate:.6g} Hz"


def _time(seconds: float) -> str:
    return f"{seconds:.4g} s" if seconds < 600 else f"{seconds / 3600:.3g} h"
