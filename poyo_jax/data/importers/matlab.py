"""Read fields of MATLAB files, of version 5 by scipy and of version 7.3 by h5py."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poyo_jax.data.importers.raw_file import RawFile, need_file, open_raw
from poyo_jax.data.io.lazy_arrays import StoredFile
from poyo_jax.data.io.trial import Trial, mark_sound, sound
from poyo_jax.data.numbers import to_numbers
from poyo_jax.errors import MissingDependencyError, PoyoError, RawDataError, SessionError, suggest
from poyo_jax.files import local_path

DEEPEST = 16  # cells and structs inside each other
MOST = 1_000_000  # entries of cells and structs
HEADER = b"MATLAB 7.3 MAT-file"
CHILD = ("-m", "poyo_jax.data.importers.matlab_child")
HDF5 = b"\x89HDF\r\n\x1a\n"

# A field as it is here: a numeric array, a text, a list (cell or struct array), or a dict (struct).
Value = Any


def read_fields(path: str | Path, fields: dict[str, str]) -> dict[str, Value]:
    """Read fields such as "data.spikes" of a MATLAB file: arguments' names to dotted paths.

    Cells and struct arrays become lists. Numeric arrays keep their two dimensions, [rows, columns].

    Raises RawDataError when the file cannot be read or lacks a field, MissingDependencyError when
    scipy is missing for a file of version 5.
    """
    path = local_path(path)
    need_file(path)
    with path.open("rb") as file:
        start = file.read(128)
    if start.startswith((HEADER, HDF5)):
        with open_raw(path) as raw:
            return {name: _field_of_hdf5(raw, field) for name, field in fields.items()}
    variables = _load(path, sorted({field.split(".")[0] for field in fields.values()}))
    return {name: _walk(variables, field, path) for name, field in fields.items()}


def read_arrays(
    path: str | Path,
    spike_times: str,
    target_times: Any,
    targets: str,
    spike_units: str | None,
    unit_ids: str | None,
) -> dict[str, Any]:
    """Read the arrays of `Session.from_arrays`. `Session.from_matlab` describes the arguments."""
    fields = {"spike_times": spike_times, "targets": targets}
    optional = {"target_times": target_times, "spike_units": spike_units, "unit_ids": unit_ids}
    fields |= {name: field for name, field in optional.items() if isinstance(field, str)}
    read = read_fields(path, fields)
    arrays = {name: _flat(value) for name, value in read.items()}
    arrays.setdefault("target_times", target_times)
    times = arrays["target_times"]
    num_samples = len(times) if isinstance(times, list) else np.size(times)
    arrays["targets"] = _turned(read["targets"], num_samples)
    if spike_units is not None:
        numbers = to_numbers(arrays["spike_units"], spike_units)
        arrays |= _positions(numbers, arrays.get("unit_ids"), spike_units)
    return arrays


def _flat(value: Value) -> Value:
    """Make vectors of arrays [1, count] and [count, 1], also inside lists."""
    if isinstance(value, list):
        return [_flat(entry) for entry in value]
    if isinstance(value, np.ndarray) and (not value.size or 1 in value.shape):
        return value.ravel()
    return value


def _turned(targets: Value, count: int) -> Value:
    """Turn targets [channels, samples] to [samples, channels]."""
    if isinstance(targets, np.ndarray) and targets.ndim == 2:
        rows, columns = targets.shape
        return targets.T if rows != count and columns == count else targets
    return targets


def _positions(units: np.ndarray, unit_ids: Any, field: str) -> dict[str, Any]:
    """Turn the numbers of units, which MATLAB counts from 1, into positions from 0 on."""
    if unit_ids is None:
        known, positions = np.unique(units, return_inverse=True)
        return {"spike_units": positions, "unit_ids": [f"unit_{number:g}" for number in known]}
    numbers = np.asarray(unit_ids).ravel()
    if numbers.dtype.kind in "iuf" and np.isin(units, numbers).all():
        order = np.argsort(numbers)
        positions = order[np.searchsorted(numbers[order], units)]
        return {"spike_units": positions, "unit_ids": [f"{number:g}" for number in numbers]}
    if len(units) and units.min() < 1:
        raise RawDataError(
            f"{field} has the unit {units.min():g}, which is not among unit_ids; pass the numbers"
            " of units, or positions in unit_ids that count from 1."
        )
    return {"spike_units": units - 1}


# --- version 5


def _load(path: Path, names: list[str]) -> dict[str, Value]:
    """Read variables of a file of version 4 to 7, in a child process first: scipy may crash."""
    _need_scipy()
    if StoredFile.of(path.absolute()) not in sound:
        _read_in_child(path, names)
        mark_sound(path)
    return load_variables(path, names)


def _read_in_child(path: Path, names: list[str]) -> None:
    with Trial("scipy", CHILD) as trial:
        try:
            trial.read(path, names)
        except SessionError as error:
            raise RawDataError(str(error)) from None


def _need_scipy() -> None:
    try:
        import scipy.io  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"reading MATLAB files before version 7.3 needs scipy, which cannot be imported"
            f" ({error}); run: pip install poyo_jax[data]"
        ) from error


def load_variables(path: Path, names: list[str]) -> dict[str, Value]:
    """Read variables of a file of version 4 to 7 in this process.

    Raises RawDataError when the file cannot be read.
    """
    from scipy.io import loadmat, whosmat

    try:
        present = [name for name, _, _ in whosmat(str(path))]
        loaded = loadmat(str(path), variable_names=names) if set(names) & set(present) else {}
        found = {name: _of_scipy(loaded[name], 0) for name in names if name in loaded}
    except PoyoError:
        raise
    except Exception as error:  # damaged files end in many kinds of error
        raise RawDataError(
            f"{path} is no MATLAB file, or it is damaged ({type(error).__name__}: {error}); copy or"
            " download it again, or save it anew from MATLAB."
        ) from error
    return dict.fromkeys(present) | found  # None stands for variables that are not needed


def _of_scipy(array: Any, depth: int) -> Value:
    _check_size(depth, 0)
    if type(array).__name__ in ("MatlabOpaque", "MatlabFunction"):
        raise RawDataError(
            "the file holds an object of MATLAB (a table, a datetime or a class); save its columns"
            " as numeric arrays or as a struct (table2struct)."
        )
    if not isinstance(array, np.ndarray):
        return array.toarray() if hasattr(array, "toarray") else array  # a sparse matrix
    names = array.dtype.names
    if names:
        rows = [{name: _of_scipy(row[name], depth + 1) for name in names} for row in array.ravel()]
        return rows[0] if len(rows) == 1 else rows
    if array.dtype == object:
        return [_of_scipy(entry, depth + 1) for entry in array.ravel(order="F")]
    if array.dtype.kind == "U":
        texts = [str(text) for text in array.ravel()]
        return texts[0] if len(texts) == 1 else texts
    return array


# --- version 7.3


def _field_of_hdf5(raw: RawFile, field: str) -> Value:
    """Read a field; groups are structs, and references lead to the entries of cells."""
    names = [str(name) for name in raw.file if not str(name).startswith("#")]
    first, *rest = field.split(".")
    if first not in names:
        raise _missing(raw.path, field, first, names)
    here: Any = raw.file[first]
    while rest and isinstance(here, h5py.Group):
        name = rest.pop(0)
        if name not in here:
            raise _missing(raw.path, field, name, here)
        here = here[name]
    value = _Hdf5Values(raw).read(here, 0)
    return _walk(value, ".".join(rest), raw.path, field) if rest else value


class _Hdf5Values:
    """Reads members of a file of version 7.3, which may refer to each other without end."""

    def __init__(self, raw: RawFile):
        self._raw = raw
        self._count = 0

    def read(self, member: Any, depth: int) -> Value:
        self._count += 1
        _check_size(depth, self._count)
        if isinstance(member, h5py.Group):
            if "MATLAB_sparse" in member.attrs:
                raise self._raw.wrong(str(member.name), "sparse", "a full array: save full(...)")
            return {str(name): self.read(member[name], depth + 1) for name in member}
        if not isinstance(member, h5py.Dataset):
            raise self._raw.wrong(str(member.name), "a data type", "numbers, cells or structs")
        kind = _class_of(member)
        if np.any(member.attrs.get("MATLAB_empty", 0)):
            return [] if kind == "cell" else np.zeros(0)
        if h5py.check_ref_dtype(member.dtype) is not None:
            references = np.ravel(member[()])
            return [self.read(self._raw.file[entry], depth + 1) for entry in references]
        values = np.asarray(member[()])
        if kind == "char":
            return "".join(map(chr, values.ravel().tolist()))
        if values.dtype.kind not in "biuf":
            found = f"of class {kind or member.dtype}"
            raise self._raw.wrong(str(member.name), found, "numbers, cells or structs")
        return values.T


def _class_of(member: h5py.Dataset) -> str:
    name = member.attrs.get("MATLAB_class", b"")
    return name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)


# --- both


def _walk(value: Value, field: str, path: Path, whole: str = "") -> Value:
    """Follow the names of a dotted path; a list gives a list of what its entries hold."""
    for name in field.split("."):
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            value = {key: [entry.get(key) for entry in value] for key in value[0]}
        if not isinstance(value, dict) or name not in value:
            raise _missing(path, whole or field, name, value if isinstance(value, dict) else {})
        value = value[name]
    return value


def _missing(path: Path, field: str, name: str, members: Iterable[str]) -> RawDataError:
    known = sorted(str(member) for member in members)
    return RawDataError(
        f"{path.name} has no field {field!r}: there is no {name!r}, but"
        f" {', '.join(known) or 'nothing'}.{suggest(name, known)} Pass the path of a field, for"
        " example 'data.spikes'."
    )


def _check_size(depth: int, count: int) -> None:
    if depth > DEEPEST or count > MOST:
        raise RawDataError(
            f"the field has more than {DEEPEST} cells or structs inside each other, or more than"
            f" {MOST:,} entries; pass the path of one of the inner fields, or save it anew."
        )
