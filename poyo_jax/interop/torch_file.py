"""Files of torch.save, read and written without torch, and read without running what they ask for.

Such a file is a zip archive: `data.pkl` is a pickle of the saved object, and `data/<key>` are the
bytes of its tensors. A pickle names functions to call while it is read; here it gets stand-ins for
the few that rebuild tensors and numpy's scalars, idle objects for what else training tools are
known to save, and a refusal for everything else. No module that a file names is imported.
"""

import math
import re
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poyo_jax.errors import CheckpointError
from poyo_jax.files import local_path, writable
from poyo_jax.interop.unpickle import IDLE, LONGEST_NAME, Refused, Unpickler

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "V2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What trainers keep beside a model (settings, optimisers, callbacks) is of these packages; it is
# stepped over.
_IDLE = {
    "torch",
    "torch_brain",
    "torchmetrics",
    "lightning",
    "lightning_fabric",
    "pytorch_lightning",
    "omegaconf",
}
_IDLE |= {"numpy", "collections", "typing", "pathlib"}
_PLAIN = {"set", "frozenset", "list", "dict", "tuple"}
_PLAIN |= {"int", "float", "complex", "bool", "str", "bytes"}
MOST_AXES = 8  # of a tensor


def read_torch_file(path: str | Path) -> Any:
    """Read a file that torch.save wrote, with read-only numpy arrays for tensors.

    Raises CheckpointError when the file is missing, damaged, of another format, or asks for
    anything but data.
    """
    path = local_path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if pickled is None:
                raise CheckpointError(
                    f"{path} is a zip archive, but torch.save did not write it. Give another file."
                )
            return _Reader(archive, pickled.removesuffix("data.pkl"), path).load()
    except zipfile.BadZipFile:
        raise CheckpointError(f"{path} {_other_format(path)}") from None
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no file {path}. Give a file that torch.save wrote."
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}). Give a file that torch.save wrote."
        ) from None
    except Exception as error:  # a damaged pickle leads to any
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {str(error)[:200]}). Copy it again."
        ) from None


def write_torch_file(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Write nested mappings of arrays, strings and numbers for torch.load(path, weights_only=True).

    Raises PoyoError when the file cannot be written; then a file that was there before is as it
    was.
    """
    path = local_path(path)
    partial = path.with_name(f"{path.name}.partial")
    storages: list[np.ndarray] = []
    pickled = b"\x80\x02" + _pickled(tree, storages) + b"."
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a link would be written through
        try:
            with zipfile.ZipFile(partial, "w") as archive:
                archive.writestr("archive/data.pkl", pickled)
                archive.writestr("archive/byteorder", "little")
                for key, array in enumerate(storages):
                    archive.writestr(f"archive/data/{key}", array.tobytes())
                archive.writestr("archive/version", "3\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _other_format(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        return "is truncated or damaged. Copy it again."
    if start[:1] == b"\x80" or tarfile.is_tarfile(path):
        return (
            "was written by torch before 1.6. Open it with torch where you trust it, and torch.save"
            " it again."
        )
    return "is no file of torch.save. Give a .ckpt or .pt file."


class _Storage(NamedTuple):
    """The numbers of tensors."""

    dtype: str
    content: bytes


class _Reader:
    """Reads the object of an archive whose entries begin with `root`.

    It makes no more bytes than the file has: tensors share the storages, and what functions make
    of text and bytes is limited.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path):
        _check_entries(archive, root, path)
        self._archive, self._root, self._path = archive, root, path
        self._storages: dict[str, bytes] = {}
        self._bytes_left = 0  # that functions may still make
        self._functions: dict[tuple[str, str], Callable] = {
            ("collections", "OrderedDict"): _ordered_dict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("numpy", "dtype"): _Dtype,
            ("numpy.core.multiarray", "scalar"): self._scalar,
            ("numpy._core.multiarray", "scalar"): self._scalar,
            ("_codecs", "encode"): self._encode,
        }

    def load(self) -> Any:
        content = self._archive.read(f"{self._root}data.pkl")
        self._bytes_left = 2 * len(content)
        try:
            return Unpickler(self._find_global, self._load_storage).load(content)
        except Refused as refusal:
            raise CheckpointError(
                f"{self._path} {refusal}. If you trust the file, open it with torch and save the"
                " state_dict of the model alone."
            ) from None

    def _find_global(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in self._functions:
            return self._functions[module, name]
        if package in _IDLE or (package in ("builtins", "__builtin__") and name in _PLAIN):
            return IDLE
        raise Refused(f"asks to run {module}.{name}, which no model needs; nothing of it was run")

    def _load_storage(self, persistent_id: Any) -> _Storage:
        _, dtype, key, _, _ = persistent_id
        if not isinstance(key, str) or len(key) > LONGEST_NAME or dtype not in _DTYPES.values():
            raise ValueError("a tensor's storage has no name or no type")
        if key not in self._storages:
            self._storages[key] = self._archive.read(f"{self._root}data/{key}")
        return _Storage(dtype, self._storages[key])

    def _encode(self, text: str, *_: Any) -> bytes:
        self._take(len(text))
        return text.encode("latin1")

    def _scalar(self, dtype: "_Dtype", data: bytes) -> Any:
        self._take(np.dtype(dtype.code).itemsize)
        return np.frombuffer(data, f"<{dtype.code}", count=1)[0].item()

    def _take(self, num_bytes: int) -> None:
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise Refused("makes more text of its bytes than it holds")


def _check_entries(archive: zipfile.ZipFile, root: str, path: Path) -> None:
    """Raise CheckpointError unless the entries are as torch.save stores them."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path} is a compressed archive, but torch.save did not write it.")
    claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > size:
        raise CheckpointError(
            f"{path} has {size} bytes, but its entries claim {claimed}. Copy it again."
        )
    order = f"{root}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise CheckpointError(
            f"{path} was written on a big-endian machine. Save it again on a little-endian one."
        )


class _Dtype:
    """Code of a numpy dtype, such as U20."""

    __slots__ = ("code",)

    def __init__(self, code: str, *_: Any):
        if len(code) > LONGEST_NAME or not re.fullmatch(r"[biufSU]\d+", code):
            raise ValueError(f"scalar of type {code[:LONGEST_NAME]!r}")
        self.code = code

    def set_state(self, state: tuple) -> None:
        """Check the byte order, which a pickle sets after it made the type."""
        if state[1] not in ("<", "|"):
            raise ValueError(f"scalar of byte order {state[1]!r}")


def _ordered_dict(*items: Any) -> OrderedDict:
    if items:  # torch.save fills mappings afterwards; by a call, a small file makes many copies
        raise Refused("makes a mapping of another one, which torch.save does not")
    return OrderedDict()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    if len(shape) > MOST_AXES:
        raise Refused(f"has a tensor of {len(shape)} axes, as no model has")
    if not all(isinstance(size, int) and 0 <= size < 2**48 for size in (offset, *shape)):
        raise ValueError(f"tensor of shape {shape} at {offset}")
    dtype, content = storage
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype)
    dense = 1  # the stride of an axis where no numbers lie between rows
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != dense:
            raise ValueError(f"tensor of shape {shape}, strides {strides}: save contiguous tensors")
        dense *= size
    return np.frombuffer(content, dtype, count, offset * np.dtype(dtype).itemsize).reshape(shape)


def _pickled(value: Any, storages: list[np.ndarray]) -> bytes:
    """Make the opcodes of pickle protocol 2 that push `value`; append its arrays to `storages`."""
    if isinstance(value, Mapping):
        empty = b"ccollections\nOrderedDict\n)R" if isinstance(value, OrderedDict) else b"}"
        items = (_pickled(key, storages) + _pickled(item, storages) for key, item in value.items())
        return empty + b"(" + b"".join(items) + b"u"
    if isinstance(value, str):
        text = value.encode()
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, tuple):
        return b"(" + b"".join(_pickled(item, storages) for item in value) + b"t"
    return _pickled_tensor(np.asarray(value, order="C"), storages)


def _pickled_tensor(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    kind = next(name for name, dtype in _DTYPES.items() if dtype == array.dtype.str)
    key = str(len(storages))
    storages.append(array)
    storage = b"(" + _pickled("storage", storages) + b"ctorch\n" + kind.encode() + b"\n"
    storage += b"".join(_pickled(item, storages) for item in (key, "cpu", array.size)) + b"tQ"
    strides = tuple(step // array.itemsize for step in array.strides)
    place = b"".join(_pickled(item, storages) for item in (0, array.shape, strides))
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + place
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )
