"""Read the spikes and clusters of a folder of Kilosort or Phy."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from poyo_jax.data.numbers import ticks_per_second
from poyo_jax.errors import RawDataError
from poyo_jax.files import local_path

TABLES = ("cluster_info.tsv", "cluster_group.tsv", "cluster_KSLabel.tsv")
# A number, as Phy writes it in params.py. The file is text for us: it is never executed.
NUMBER = r"[0-9][0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9]+)?"
SAMPLE_RATE = re.compile(rf"^\s*sample_rate\s*=\s*({NUMBER})\s*(?:#.*)?$", re.MULTILINE)
LARGEST_TABLE = 1 << 24  # bytes


class SortedSpikes(NamedTuple):
    """Spikes of a folder, in the order of its files."""

    times: np.ndarray  # s, [spikes]
    units: np.ndarray  # positions among the clusters, [spikes]
    clusters: np.ndarray  # numbers, [clusters]
    columns: dict[str, np.ndarray]  # such as group and KSLabel, one text per cluster


def read_kilosort(folder: str | Path, sampling_rate: float | None) -> SortedSpikes:
    """Read a folder. `Session.from_kilosort` describes the arguments and the errors."""
    folder = local_path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise RawDataError(
            f"{folder} {what}; pass the folder of Kilosort or Phy, with spike_times.npy."
        )
    samples = _whole_numbers(folder / "spike_times.npy")
    clusters_file = folder / "spike_clusters.npy"
    if not clusters_file.exists():
        clusters_file = folder / "spike_templates.npy"  # of Kilosort, before Phy
    labels = _whole_numbers(clusters_file)
    if len(labels) != len(samples):
        raise RawDataError(
            f"{folder}: spike_times.npy has {len(samples)} spikes, but {clusters_file.name}"
            f" {len(labels)}; both must come from one sorting. Export it again."
        )
    if not len(samples):
        raise RawDataError(f"{folder}: spike_times.npy has no spikes.")
    if samples.min() < 0:
        raise RawDataError(f"{folder}: spike_times.npy begins at sample {samples.min()}, not 0.")
    if sampling_rate is None:
        rate = _sample_rate(folder / "params.py")
    else:
        rate = ticks_per_second("samples", sampling_rate)
    clusters, units = np.unique(labels, return_inverse=True)
    order = np.argsort(samples, kind="stable")
    columns = _columns(folder, clusters)
    return SortedSpikes(samples[order] / rate, units[order], clusters, columns)


def _whole_numbers(path: Path) -> np.ndarray:
    """Read whole numbers [count]; never objects, which could run code."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, kind = np.shape(array), getattr(array, "dtype", np.dtype("V")).kind
    except FileNotFoundError as error:
        raise RawDataError(
            f"{path} is missing; pass the folder in which Kilosort or Phy wrote spike_times.npy and"
            " spike_clusters.npy."
        ) from error
    except (OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        raise RawDataError(
            f"{path} cannot be read as an array of numpy ({error}); export it again."
        ) from error
    if len(shape) not in (1, 2) or (len(shape) == 2 and 1 not in shape):
        raise RawDataError(f"{path} has shape {shape}; expected one number per spike.")
    numbers = np.asarray(array).ravel()
    if kind == "f" and np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all():
        return numbers.astype(np.int64)
    if kind not in "iu":
        raise RawDataError(
            f"{path} holds {numbers.dtype}; expected whole numbers. If these are seconds, use"
            " Session.from_arrays."
        )
    return numbers.astype(np.int64)


def _sample_rate(path: Path) -> float:
    match = SAMPLE_RATE.search(_text(path)) if path.exists() else None
    rate = float(match[1].replace("_", "")) if match else 0.0
    if not 0 < rate < np.inf:
        state = "has no line such as sample_rate = 30000." if path.exists() else "is missing;"
        raise RawDataError(f"{path} {state} Pass sampling_rate, in Hz.")
    return rate


def _columns(folder: Path, clusters: np.ndarray) -> dict[str, np.ndarray]:
    """Read the columns of the tables, one text per cluster; empty where a table has no row."""
    columns: dict[str, np.ndarray] = {}
    for name in TABLES:
        path = folder / name
        if not path.exists():
            continue
        rows = list(csv.DictReader(_text(path).splitlines(), delimiter="\t"))
        key = "cluster_id" if rows and "cluster_id" in rows[0] else "id"
        by_cluster = {str(row.get(key)): row for row in rows}
        for column in [column for column in (rows[0] if rows else ()) if column not in (key, None)]:
            values = [by_cluster.get(str(cluster), {}).get(column) or "" for cluster in clusters]
            columns.setdefault(column, np.array(values, object))
    return columns


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise RawDataError(f"{path} has {path.stat().st_size} bytes, too many for a table.")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RawDataError(f"{path} cannot be read ({error.strerror or error}).") from error
