"""Torch files made to take endless time or memory end in a sentence, quickly."""

import struct
import time
import zipfile

import numpy as np
import pytest
from golden_model import load
from test_convert import READOUTS, SETTINGS
from torch_models import state_dict

from poyo_jax import from_torch
from poyo_jax.errors import CheckpointError, PoyoError
from poyo_jax.interop.torch_file import read_torch_file, write_torch_file

START = b"\x80\x02"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    content = value.to_bytes(12, "little")
    return b"\x8a" + bytes([len(content)]) + content


def storage(key: bytes) -> bytes:
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + b"K\x01tQ"


def many(function: bytes, arguments: bytes, count: int) -> bytes:
    """A list of calls of a function."""
    return START + function + b"q\x000" + arguments + b"q\x010](" + b"h\x00h\x01R" * count + b"e."


DEEP = b")" + b"\x85" * 2_000_000
WIDE = b"(" + b"K\x01" * 300_000 + b"t"
PAIRS = b"}(" + b"".join(b"M" + struct.pack("<H", key) + b"N" for key in range(60_000)) + b"u"
SAME_HASH = b"".join(number((2**61 - 1) * factor) + b"N" for factor in range(1, 100_000))
LONG_SCALAR = b"B" + struct.pack("<I", 400_000) + b"a\0\0\0" * 100_000

HOSTILE = {
    "deep key": (START + b"}" + DEEP + b"Ns.", "nests tuples more than 16 deep"),
    "deep key of a storage": (START + storage(DEEP) + b".", "nests tuples more than 16 deep"),
    "tuple as key": (START + b"}K\x01\x85Ns.", "has a key of type tuple, as no model has"),
    "long key": (START + b"}" + text("a" * 5000) + b"Ns.", "a key of more than 4096 characters"),
    "keys of one hash": (
        START + b"}(" + SAME_HASH + b"u.",
        "a number of more than 60 bits as a key",
    ),
    "long shape": (
        START + TENSOR + b"(" + storage(text("0")) + b"K\x00" + WIDE + WIDE + b"\x89}tR.",
        "has a tensor of 300000 axes",
    ),
    "large shape": (
        START
        + TENSOR
        + b"("
        + storage(text("0"))
        + b"K\x00"
        + number(2**60) * 2
        + b"\x86K\x01K\x01"
        b"\x86\x89}tR.",
        "is damaged .ValueError: tensor of shape",
    ),
    "encoded again": (
        many(b"c_codecs\nencode\n", text("a" * 700_000) + text("latin1") + b"\x86", 100_000),
        "makes more text of its bytes than it holds",
    ),
    "scalars again": (
        many(
            b"cnumpy.core.multiarray\nscalar\n",
            b"cnumpy\ndtype\n" + text("U100000") + b"\x85R" + LONG_SCALAR + b"\x86",
            100_000,
        ),
        "makes more text of its bytes than it holds",
    ),
    "mappings again": (
        many(b"ccollections\nOrderedDict\n", PAIRS + b"\x85", 100_000),
        "makes a mapping of another one",
    ),
    "many arguments": (
        many(b"ctorch._utils\n_rebuild_parameter\n", WIDE, 100_000),
        "calls a function with more than 16 arguments",
    ),
    "long name": (
        b"\x80\x04" + text("torch" + "a" * 1_000_000) + b"q\x000](" + b"h\x00h\x00\x93" * 9 + b"e.",
        "names a function by more than 200 characters",
    ),
    "marks": (START + b"(" * 2_000_000 + b".", "opens more than 1000 lists in lists"),
    "other instruction": (START + b"I1\n.", "uses the pickle instruction INT"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_endless_files_end_in_a_sentence(name, tmp_path):
    content, sentence = HOSTILE[name]
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(4))
    before = time.process_time()
    with pytest.raises(CheckpointError, match=sentence):
        read_torch_file(tmp_path / "a.ckpt")
    assert time.process_time() - before < 5  # seconds of this process; it takes 0.5


def test_entries_that_claim_more_than_the_file(tmp_path):
    path = tmp_path / "a.ckpt"
    write_torch_file(path, {"a": np.zeros(4, np.float32)})
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02")  # of the last entry, in the list of entries
    path.write_bytes(content[: at + 24] + struct.pack("<I", 2**31) + content[at + 28 :])
    with pytest.raises(CheckpointError, match=r"but its entries claim 2147\d+\. Copy it again"):
        read_torch_file(path)


@pytest.fixture(scope="module")
def state():
    return state_dict(load("poyo_tiny"))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"depth": 10**9}, r"cannot be used \(ModelConfig.depth is 1000000000; it must be at most"),
        ({"depth": 900}, "has depth 900, but the checkpoint has 2 layers"),
        ({"dim": 10**9}, "ModelConfig.dim is 1000000000; it must be at most"),
        ({"sequence_length": 1e6}, "ModelConfig.window_length is 1000000.0; it must be"),
        ({"sequence_length": float("inf")}, "ModelConfig.window_length is inf"),
        ({"sequence_length": float("nan")}, "ModelConfig.window_length is nan"),
        ({"latent_step": 1e-9}, "ModelConfig.window_length is 1.0; it must be"),
        ({"depth": float("inf")}, "cannot be used"),
        ({"ffn_dropout": 10**400}, "cannot be used"),
    ],
)
def test_sizes_of_the_settings_are_bounded(changes, sentence, state):
    checkpoint = {"state_dict": state, "hyper_parameters": {"model": {**SETTINGS, **changes}}}
    with pytest.raises(CheckpointError, match=sentence):
        from_torch(checkpoint, readouts=READOUTS)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({7: np.zeros(2)}, "has 1 names that are not text, the first of them of type int"),
        (
            {"readout.bias": np.array([0, np.nan], np.float32)},
            "readout.bias has 1 numbers of 2 that are not finite",
        ),
        ({"unit_emb.vocab": {"NA": 0, "u": [1]}}, "does not number its 2 names"),
        ({"unit_emb.vocab": {"NA": 0, 5: 1}}, "does not number its 2 names"),
    ],
)
def test_other_states_that_cannot_be_converted(change, sentence, state):
    with pytest.raises(CheckpointError, match=sentence):
        from_torch({**state, **change}, readouts=READOUTS)


def test_settings_beside_the_sizes(state):
    for changes in ({"global_step": 2**70}, {"hyper_parameters": {"readouts": {"a": "[" * 10**5}}}):
        with pytest.raises(PoyoError, match=r"global_step|is not the JSON of a readout"):
            from_torch({"state_dict": state, **changes}, readouts=READOUTS)
