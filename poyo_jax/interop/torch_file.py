"""Files of torch.save, read and written without torch, and read without running what they ask for.

Such a file is a zip archive: `data.pkl` is a pickle of the saved object, and `data/<key>` are the
bytes of its tensors. A pickle names functions to call while it is read; here it gets stand-ins for
the few that rebuild tensors and numpy's scalars, idle objects for what else training tools are
known to save, and a refusal for everything else. No module that a file names is imported.
"""

import io
import math
import pickle
import re
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poyo_jax.errors import CheckpointError
from poyo_jax.files import local_path, writable

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
_PLAIN = {
    "set",
    "frozenset",
    "list",
    "dict",
    "tuple",
    "int",
    "float",
    "complex",
    "bool",
    "str",
    "bytes",
}


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


class _Reader(pickle.Unpickler):
    """Unpickles the description of an archive whose entries begin with `root`."""

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path):
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:  # small on disk and endless in memory
                raise CheckpointError(
                    f"{path} is a compressed archive, but torch.save did not write it."
                )
        if (
            f"{root}byteorder" in archive.namelist()
            and archive.read(f"{root}byteorder") != b"little"
        ):
            raise CheckpointError(
                f"{path} was written on a big-endian machine. Save it again on a little-endian one."
            )
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")), encoding="utf-8")
        self._archive, self._root, self._path = archive, root, path
        self._storages: dict[str, bytes] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        package = module_name.partition(".")[0]
        if module_name == "torch" and global_name in _DTYPES:
            return _DTYPES[global_name]
        if (module_name, global_name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module_name, global_name) in _FUNCTIONS:
            return _Function(_FUNCTIONS[module_name, global_name])
        if package in _IDLE or (package in ("builtins", "__builtin__") and global_name in _PLAIN):
            return type(global_name, (_Idle,), {})
        raise CheckpointError(
            f"{self._path} asks to run {module_name}.{global_name}, which no model needs; nothing"
            " of it was run. If you trust the file, open it with torch and save the state_dict of"
            " the model alone."
        )

    def persistent_load(self, pid: Any, /) -> tuple[str, bytes]:
        """(dtype, bytes) of a tensor's storage."""
        _, dtype, key, _, _ = pid
        if key not in self._storages:
            self._storages[key] = self._archive.read(f"{self._root}data/{key}")
        return dtype, self._storages[key]


class _Function:
    """A wrapper of our function that a pickle cannot change, though a pickle may set attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Idle:
    """Takes the place of an object that is not needed, and lets everything be done to it."""

    def __new__(cls, *_: Any, **__: Any):
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def ignore(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = update = __call__ = ignore


class _Dtype:
    """Code of a numpy dtype, such as U20."""

    __slots__ = ("code",)

    def __init__(self, code: str, *_: Any):
        if not re.fullmatch(r"[biufSU]\d+", code):
            raise ValueError(f"scalar of type {code!r}")
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|"):
            raise ValueError(f"scalar of byte order {state[1]!r}")


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return np.frombuffer(data, f"<{dtype.code}", count=1)[0].item()


def _tensor(
    storage: tuple[str, bytes], offset: int, shape: tuple, strides: tuple, *_: Any
) -> np.ndarray:
    dtype, data = storage
    count = math.prod(shape)
    if not count:
        return np.zeros(shape, dtype)
    whole = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if any(
        size > 1 and stride != dense
        for size, stride, dense in zip(shape, strides, whole, strict=True)
    ):
        raise ValueError(f"tensor of shape {shape} with strides {strides}: save contiguous tensors")
    return np.frombuffer(data, dtype, count, offset * np.dtype(dtype).itemsize).reshape(shape)


_FUNCTIONS: dict[tuple[str, str], Callable] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
}


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
