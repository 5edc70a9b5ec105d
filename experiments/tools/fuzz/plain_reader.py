"""Read everything in an HDF5 file by h5py alone, or in a MATLAB file of version 5 by scipy alone.

    $ python -m experiments.tools.fuzz.plain_reader FILE

If this hangs or crashes, too, the fault is one of the library.
"""

import contextlib
import sys

import h5py
import scipy.io

MOST_BYTES = 1 << 20  # of an array that is read


def main(path: str) -> None:
    if h5py.is_hdf5(path):
        _read_hdf5(path)
    else:
        with contextlib.suppress(Exception):
            scipy.io.loadmat(path)


def _read_hdf5(path: str) -> None:
    with contextlib.suppress(Exception), h5py.File(path, "r") as file:
        _read_attributes(file)
        file.visititems(_read)


def _read(name: str, item: object) -> None:
    _read_attributes(item)
    if isinstance(item, h5py.Dataset) and item.nbytes < MOST_BYTES:
        with contextlib.suppress(Exception):
            item[()]


def _read_attributes(item) -> None:
    with contextlib.suppress(Exception):
        for name in item.attrs:
            with contextlib.suppress(Exception):
                item.attrs[name]


if __name__ == "__main__":
    main(sys.argv[1])
