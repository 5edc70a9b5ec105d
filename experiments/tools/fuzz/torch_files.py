"""Targets that are files of torch.save: their bytes, and the instructions of their pickle."""

import functools
import pickletools
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tools.fuzz.mutate import mutated_bytes
from experiments.tools.fuzz.target import Target, need
from poyo_jax.config import Config, ModelConfig, RunConfig
from poyo_jax.data.vocab import Vocab
from poyo_jax.interop import convert
from poyo_jax.interop.convert import from_torch, save_torch
from poyo_jax.interop.torch_file import read_torch_file
from poyo_jax.model.build import build_model, shapes_of_params
from poyo_jax.pretrained import Pretrained
from poyo_jax.types import Readout

PICKLE = "archive/data.pkl"


def tiny_model() -> Pretrained:
    """A model with random parameters, of the smallest sizes."""
    model = ModelConfig(
        dim=8, depth=1, head_dim=8, cross_heads=1, self_heads=1, num_latents=2, latent_step=0.25
    )
    units, sessions = Vocab(f"lab/s/{unit}" for unit in range(4)), Vocab(["lab/s"])
    built = build_model(model, RunConfig(), units.num_rows, sessions.num_rows)
    rng = np.random.default_rng(0)

    def numbers(leaf: Any) -> jax.Array:
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)  # made without compiling

    readout = Readout(value_key="cursor.vel", mean=(0.5, -1.0), std=(2.0, 3.0))
    return Pretrained(
        config=Config(model=model),
        params=jax.tree.map(numbers, shapes_of_params(built)),
        units=units,
        sessions=sessions,
        readouts={"lab/s": readout},
        metrics={},
        step=7,
    )


def same_tree(a: Any, b: Any) -> bool:
    """Tell if two trees of arrays are equal bit for bit."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(_same(np.asarray(x), np.asarray(y)) for x, y in pairs)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def remember_shapes(module: Any) -> None:
    """Let a reader trace a model once: it takes 0.3 s, and few mutations change the model."""
    module.shapes_of_params = functools.lru_cache(64)(shapes_of_params)


def check_model(model: Pretrained) -> None:
    """Raise OtherValue unless a model can be used."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        finite = bool(np.isfinite(np.asarray(leaf)).all())
        need(finite, f"{jax.tree_util.keystr(path)} is not finite")
    rows = len(model.params["unit_embedding"])
    need(rows == model.units.num_rows, f"{model.units.num_rows} rows of {rows}")
    names = (*model.units.names, *model.sessions.names)
    need(all(type(name) is str for name in names), "a unit or session has a name that is no text")
    need(set(model.readouts) == set(model.sessions.names), "a session has no readout")
    need(type(model.step) is int and model.step >= 0, f"the step is {model.step!r}")
    repr(model)


class TorchBytes(Target):
    """Bytes of the whole file, whose entries have checksums."""

    name = "torch_bytes"

    def make(self) -> None:
        save_torch(tiny_model(), self.folder / "original.ckpt")

    def warm_up(self) -> None:
        remember_shapes(convert)
        path = self.folder / "original.ckpt"
        self.original = path.read_bytes()
        self.expected = read_torch_file(path)
        check_model(from_torch(path))

    def damaged(self, number: int) -> bytes:
        return mutated_bytes(self.original, self.rng(number))

    def attempt(self, number: int) -> None:
        path = self.write("damaged.ckpt", self.damaged(number))
        read = read_torch_file(path)
        need(same_tree(read, self.expected), "the file gives another value")


class TorchOpcodes(TorchBytes):
    """The pickle in the file: it has no checksum of its own, so valid values may differ."""

    name = "torch_opcodes"

    def warm_up(self) -> None:
        super().warm_up()
        with zipfile.ZipFile(self.folder / "original.ckpt") as archive:
            self.entries = {name: archive.read(name) for name in archive.namelist()}
        places = [place for _, _, place in pickletools.genops(self.entries[PICKLE])]
        self.places = [place for place in places if place is not None]

    def attempt(self, number: int) -> None:
        path = self.folder / "damaged.ckpt"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in self.entries.items():
                archive.writestr(name, self._changed(number) if name == PICKLE else content)
        check_model(from_torch(path))

    def _changed(self, number: int) -> bytes:
        """The pickle with changed bytes, or with instructions left out, moved, doubled or new."""
        rng, content = self.rng(number), self.entries[PICKLE]
        if rng.random() < 0.3:
            return mutated_bytes(content, rng)
        pieces = np.split(np.frombuffer(content, np.uint8), self.places[1:])
        instructions = [piece.tobytes() for piece in pieces]
        for _ in range(rng.integers(1, 4)):
            at, other = rng.integers(len(instructions), size=2)
            change = rng.integers(5)
            if change == 0:
                del instructions[at]
            elif change == 1:
                instructions.insert(at, instructions[other])
            elif change == 2:
                instructions[at] = instructions[other]
            elif change == 3:
                instructions[at], instructions[other] = instructions[other], instructions[at]
            else:
                instructions.insert(at, _NEW[rng.integers(len(_NEW))])
        return b"".join(instructions)


_NEW = (
    *(b"N", b"\x88", b"K\x00", b"J\xff\xff\xff\xff", b"G\x7f\xf8\0\0\0\0\0\0", b"}", b"]", b")"),
    *(b"(", b"0", b"2", b"R", b"\x81", b"b", b"Q", b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86"),
    *(b"\x94", b"h\x00", b"q\x00", b"\x93", b"\x8f", b"\x90", b"\x91", b"X\x01\0\0\0a", b"l", b"d"),
    *(b"ctorch\nSize\n", b"cos\nsystem\n", b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n"),
    *(b"\x8a\x09" + b"\xff" * 9, b"\x95" + b"\xff" * 8, b"X\xff\xff\xff\xff", b"F1\n", b"I01\n"),
)
