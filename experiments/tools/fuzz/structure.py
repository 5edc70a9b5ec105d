"""Random changes of the objects of an HDF5 file: what a hostile or careless writer would write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Rng = np.random.Generator

VALUES: tuple[Any, ...] = (
    *(1.0, -1, 0, 7, True, 0.7, 1 + 2j, "a", b"\xff\xfe", "a" * 5000, "µ", "", "\0"),
    *(np.array("a", h5py.string_dtype()), np.float16(3), np.uint64(2**64 - 1)),
    *(h5py.Empty("f8"), h5py.Empty("i8"), h5py.Empty("S3")),
    *(np.zeros(0), np.zeros((0, 2)), np.zeros((3, 1)), np.zeros((2, 3, 4)), np.ones((1, 1))),
    *(np.full(5, np.nan), np.full(5, np.inf), np.full(5, -1), np.full(5, 2**62), np.full(5, 0.7)),
    *(np.arange(5)[::-1].copy(), np.arange(5.0), np.array(["x", "y"], "S"), np.array([1, 1, 1])),
    *(np.array([True, False]), np.array([1 + 2j, 3]), np.array([(1, 2.0)], "i4,f8")),
    *(np.array([b"a", b"\xff"], "S"), np.void(b"abc"), np.array([np.nan, 1.0, 2.0])),
)
NUMBERS = (np.nan, np.inf, -np.inf, -1, 0, 1, 1e300, -1e300, 2**31, 2**62, 0.7, 1e9)
MAX_RESHAPED = 10_000_000  # numbers; an earlier change may have declared more
NAMES = ("object", "timekeys", "_unicode_keys", "sampling_rate", "id", "rate", "conversion", "x")


def change_file(path: Path, rng: Rng) -> None:
    """Make one to three random changes to an HDF5 file; what cannot be written is left out."""
    with h5py.File(path, "r+") as file:
        for _ in range(rng.integers(1, 4)):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return
            name = names[rng.integers(len(names))]
            change = _CHANGES[rng.integers(len(_CHANGES))]
            try:
                change(file, name, rng)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                OSError,
                RuntimeError,
                TypeError,
                ValueError,
            ):
                continue  # of this kind of object, or not at all


def _one(choices: Any, rng: Rng) -> Any:
    return choices[rng.integers(len(choices))]


def _remove(file: Any, name: str, rng: Rng) -> None:
    del file[name]


def _replace(file: Any, name: str, rng: Rng) -> None:
    value = _one(VALUES, rng)
    del file[name]
    file[name] = value


def _reshape(file: Any, name: str, rng: Rng) -> None:
    """Another rank, type or number of rows, with the same numbers; not of a huge array."""
    if file[name].size > MAX_RESHAPED:
        raise ValueError("too large to be written in another shape")
    array = np.asarray(file[name][()])
    changed = (
        lambda: array[:, None],
        lambda: array[None],
        lambda: array[:-1],
        lambda: np.concatenate([array, array]),
        lambda: array[..., 0],
        lambda: array[::-1],
        lambda: array.astype(_one(("f4", "i1", "u8", "f2", "c16", "S8", "?", "i4", ">f8"), rng)),
    )
    value = _one(changed, rng)()
    del file[name]
    file[name] = value


def _set_number(file: Any, name: str, rng: Rng) -> None:
    data_set = file[name]
    place = tuple(int(rng.integers(size)) for size in data_set.shape)
    data_set[place] = _one(NUMBERS, rng)


def _declare_rows(file: Any, name: str, rng: Rng) -> None:
    """Endless rows that the file does not hold."""
    data_set = file[name]
    shape, dtype = (10 ** int(rng.integers(6, 13)), *data_set.shape[1:]), data_set.dtype
    chunks = _one((None, (1024, *data_set.shape[1:])), rng)
    del file[name]
    file.create_dataset(name, shape, dtype, chunks=chunks)


def _store_outside(file: Any, name: str, rng: Rng) -> None:
    data_set = file[name]
    shape, dtype = data_set.shape, data_set.dtype
    del file[name]
    outside = Path(file.filename).parent / "outside.bin"
    file.create_dataset(name, shape, dtype, external=[(str(outside), 0, 1 << 20)])


def _link(file: Any, name: str, rng: Rng) -> None:
    names: list[str] = []
    file.visit(names.append)
    parent, other = file[name].parent, _one(names, rng)
    links = (
        lambda: h5py.ExternalLink("original.h5", other),
        lambda: h5py.ExternalLink("missing.h5", "/"),
        lambda: h5py.SoftLink(f"/{other}"),
        lambda: h5py.SoftLink(f"/{name}"),
        lambda: h5py.SoftLink("/"),
        lambda: parent,
        lambda: file[other],
        lambda: file,
    )
    value = _one(links, rng)()
    del file[name]
    file[name] = value


def _set_attribute(file: Any, name: str, rng: Rng) -> None:
    target = _one((file, file[name]), rng)
    names = [*target.attrs] if rng.random() < 0.7 else []
    target.attrs[_one(names or NAMES, rng)] = _one(VALUES, rng)


def _remove_attribute(file: Any, name: str, rng: Rng) -> None:
    target = _one((file, file[name]), rng)
    del target.attrs[_one([*target.attrs], rng)]


def _rename(file: Any, name: str, rng: Rng) -> None:
    file.move(name, f"{name}{_one(('x', '_domain', '.y', '²'), rng)}")


def _nest(file: Any, name: str, rng: Rng) -> None:
    """Groups in groups, each linked twice."""
    group = file.create_group(f"{name}_nested")
    for _ in range(rng.integers(1, 60)):
        inner = group.create_group("a")
        group["b"], group = inner, inner


def _type(file: Any, name: str, rng: Rng) -> None:
    """A named type, a reference, or lists of many lengths in place of an object."""
    kind = rng.integers(3)
    if kind == 0:
        del file[name]
        file[name] = np.dtype("f8")
        return
    reference = file.ref
    del file[name]
    if kind == 1:
        file.create_dataset(name, data=[reference, reference], dtype=h5py.ref_dtype)
    else:
        data_set = file.create_dataset(name, (3,), h5py.vlen_dtype(np.float64))
        data_set[0] = [1.0, 2.0]


_CHANGES: tuple[Callable[[Any, str, Rng], None], ...] = (
    *(_remove, _replace, _replace, _reshape, _reshape, _set_number, _set_number, _declare_rows),
    *(_store_outside, _link, _set_attribute, _set_attribute, _remove_attribute, _rename, _nest),
    _type,
)
