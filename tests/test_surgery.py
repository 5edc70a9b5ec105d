"""Which sessions and units a model knows, changed after training."""

import numpy as np
import pytest

from poyo_jax import decode, fit_units, load
from poyo_jax.data.vocab import Vocab, VocabReport
from poyo_jax.errors import VocabError
from poyo_jax.finetune import FitConfig
from poyo_jax.surgery import merge_models, rename_sessions, rename_units, subset_sessions

FIRST, SECOND, THIRD = (f"simulated/session_{number}" for number in range(3))


@pytest.fixture(scope="module")
def pretrained(tiny_run):
    return load(tiny_run)


@pytest.fixture(scope="module")
def adapted(pretrained, tiny_sessions):
    config = FitConfig(num_steps=2, batch_size=8)
    return fit_units(pretrained, tiny_sessions[2:], config, progress=False).pretrained


def test_a_model_of_some_sessions_decodes_them_alike(pretrained, tiny_sessions):
    part = subset_sessions(pretrained, [SECOND])
    assert (
        part.sessions.names == (SECOND,) == tuple(part.readouts)
        and part.units.names == tiny_sessions[1].unit_names
    )
    assert (
        part.params["unit_embedding"].shape == (13, 16)
        and not np.asarray(part.params["unit_embedding"][0]).any()
    )
    expected = decode(pretrained, tiny_sessions[1]).values
    np.testing.assert_allclose(decode(part, tiny_sessions[1]).values, expected, rtol=0, atol=1e-4)
    with pytest.raises(
        VocabError, match=r"'simulated/session' is not in the vocabulary of 2 names. Did you mean"
    ):
        subset_sessions(pretrained, ["simulated/session"])


def test_sessions_and_units_are_renamed(pretrained):
    renamed = rename_sessions(pretrained, {FIRST: "monday"})
    assert renamed.sessions.names == ("monday", SECOND) and set(renamed.readouts) == {
        "monday",
        SECOND,
    }
    assert (
        renamed.units.names[0] == "monday/unit_00"
        and renamed.units.names[12:] == pretrained.units.names[12:]
    )
    assert renamed.params is pretrained.params
    named = rename_units(pretrained, {f"{FIRST}/unit_00": f"{FIRST}/left"})
    assert named.units.names[:2] == (f"{FIRST}/left", f"{FIRST}/unit_01")
    with pytest.raises(VocabError, match="occurs twice"):
        rename_sessions(pretrained, {FIRST: SECOND})
    with pytest.raises(VocabError, match="'x' is not in the vocabulary"):
        rename_units(pretrained, {"x": "y"})


def test_models_of_one_backbone_are_merged(pretrained, adapted, tiny_sessions):
    first, second = subset_sessions(adapted, [FIRST]), subset_sessions(adapted, [THIRD, FIRST])
    both = merge_models(first, second)
    assert both.sessions.names == (FIRST, THIRD) == tuple(sorted(both.readouts))
    for session in (tiny_sessions[0], tiny_sessions[2]):
        expected = decode(adapted, session).values
        np.testing.assert_allclose(decode(both, session).values, expected, rtol=0, atol=1e-4)


def test_models_of_different_backbones_are_not(pretrained, tiny_run):
    with pytest.raises(
        VocabError, match=r"different backbones, and rows of one mean nothing to the other. Merge"
    ):
        merge_models(load(tiny_run, step=50), load(tiny_run, step=100))


def test_vocabularies():
    vocab = Vocab(["a/1", "a/2", "b/1"])
    assert vocab.subset(["b/1", "a/1"]).names == ("a/1", "b/1")
    assert vocab.rename({"a/2": "c"}).names == ("a/1", "c", "b/1")
    assert vocab.merge(Vocab(["d", "a/1"])).names == ("a/1", "a/2", "b/1", "d")
    assert vocab.matching("a/*") == ("a/1", "a/2") and vocab.matching("?/1") == ("a/1", "b/1")
    with pytest.raises(VocabError, match="'x' is not in the vocabulary"):
        vocab.subset(["x"])
    report = VocabReport.compare(vocab, Vocab(["a/1", "new/1", "new/2"]))
    assert report == VocabReport(("a/1",), ("new/1", "new/2"), ("a/2", "b/1"))
    assert str(report) == "1 kept, 2 new (first new/1), 2 dropped (first a/2)"


def test_a_vocabulary_prints_as_a_table(pretrained):
    assert str(pretrained.units).splitlines() == [
        "         rows  names",
        "     1-12      12: simulated/session_0/unit_00 ... unit_11",
        "    13-24      12: simulated/session_1/unit_00 ... unit_11",
    ]
    assert (
        str(pretrained.sessions).splitlines()[1]
        == "     1-2       2: simulated/session_0 ... session_1"
    )
    assert str(Vocab(["alone"])).splitlines()[1] == "     1-1       1: alone"
    assert str(Vocab(f"{number}/x" for number in range(50))).endswith("and 30 more groups")
