"""Models from and to torch_brain: the same numbers, the same predictions, and what cannot be
converted.
"""

import json
import logging
import os
from collections import OrderedDict
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import tiny
from golden_model import GOLDEN, TINY, golden_batch, load, params_from_torch
from torch_models import READOUT, run_peer, state_dict
from whole_model import predict

import poyo_jax
from poyo_jax import Session, decode, fit_units, from_torch, save_torch, to_torch
from poyo_jax.data.datasets.perich_miller_population_2018 import CENTER_OUT, RANDOM_TARGET
from poyo_jax.data.readout import default_readout
from poyo_jax.errors import CheckpointError, ConfigError, DataError, PoyoError
from poyo_jax.finetune import FitConfig
from poyo_jax.interop.torch_file import write_torch_file
from poyo_jax.metrics import r2_score
from poyo_jax.types import Readout

READOUTS = {"sessA": READOUT, "sessB": READOUT}
SETTINGS = {
    "sequence_length": 1.0,
    "latent_step": 0.125,
    "dim": 32,
    "depth": 2,
    "dim_head": 16,
    "cross_heads": 2,
    "self_heads": 2,
    "num_latents_per_step": 4,
    "ffn_dropout": 0.1,
    "lin_dropout": 0.3,
    "atn_dropout": 0.2,
}
WITHOUT_DROPOUT = {f"{name}_dropout": 0.0 for name in ("feedforward", "residual", "attention")}


@pytest.fixture
def state():
    return state_dict(load("poyo_tiny"))


def same(actual: dict, expected: dict) -> None:
    """Both state dicts are equal bit for bit."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert (actual[name].dtype, actual[name].shape) == (value.dtype, value.shape), name
            assert actual[name].tobytes() == value.tobytes(), name
        else:
            assert actual[name] == value, name


@pytest.mark.parametrize("place", ["tests", "shared"])
def test_predictions_of_the_golden_model(place, request):
    folder = GOLDEN if place == "tests" else request.getfixturevalue("shared") / "golden"
    with np.load(folder / "poyo_tiny.npz") as file:
        arrays = dict(file)
    pretrained = from_torch(state_dict(arrays), config=TINY, readouts=READOUTS)
    batch, mask = golden_batch(arrays), arrays["batch/output_mask"]
    values = jax.jit(partial(predict, pretrained.model, microbatch_windows=2))(
        pretrained.params, batch
    )
    np.testing.assert_allclose(values[mask], arrays["out/f64ts"][mask], rtol=0, atol=1e-5)


def test_there_and_back(state, tmp_path):
    pretrained = from_torch(state, readouts=READOUTS)
    jax.tree.map(
        np.testing.assert_array_equal,
        pretrained.params,
        params_from_torch(load("poyo_tiny"), "param", 2),
    )
    same(to_torch(pretrained), state)
    save_torch(replace(pretrained, step=7), tmp_path / "deep" / "model.ckpt")
    again = from_torch(tmp_path / "deep" / "model.ckpt")
    same(to_torch(again), state)
    assert (again.config, again.units, again.sessions) == (
        pretrained.config,
        pretrained.units,
        pretrained.sessions,
    )
    assert (again.readouts, again.step) == (READOUTS, 7)
    assert os.listdir(tmp_path / "deep") == ["model.ckpt"]


def test_a_trained_model_there_and_back(tiny_run, tiny_sessions, tmp_path):
    pretrained = poyo_jax.load(tiny_run)
    save_torch(pretrained, tmp_path / "model.ckpt")
    again = from_torch(tmp_path / "model.ckpt")
    assert again.config.model == pretrained.config.model
    expected = decode(pretrained, tiny_sessions[0])
    np.testing.assert_allclose(
        decode(again, tiny_sessions[0]).values, expected.values, rtol=0, atol=1e-5
    )
    fitted = fit_units(again, [tiny_sessions[2]], FitConfig(num_steps=2), progress=False)
    assert fitted.pretrained.knows(tiny_sessions[2])


@pytest.mark.parametrize("prefix", ["", "model.", "model._orig_mod."])
def test_prefixes_and_settings_of_wrappers(prefix, state):
    checkpoint = {
        "state_dict": {prefix + name: value for name, value in state.items()},
        "hyper_parameters": {
            "model": {"_target_": "torch_brain.models.POYO", **SETTINGS},
            "epochs": 1000,
        },
        "global_step": 3,
    }
    pretrained = from_torch(checkpoint, readouts=READOUTS)
    assert pretrained.config.model == replace(
        TINY,
        latent_step=0.125,
        feedforward_dropout=0.1,
        residual_dropout=0.3,
        attention_dropout=0.2,
    )
    assert pretrained.step == 3


def test_sizes_come_from_the_shapes(state, caplog):
    with caplog.at_level(logging.WARNING):
        config = from_torch(state, readouts=READOUTS).config.model
    assert replace(config, **WITHOUT_DROPOUT, latent_step=0.25) == TINY
    assert (
        "does not tell its time grid; taken as window_length = 1.0 s, latent_step = 0.125 s"
        in caplog.text
    )


# --- the whole of a session


def compare(pretrained: poyo_jax.Pretrained, session: Session, out) -> None:
    """Ours equal theirs at every sample of the session, and so does R2."""
    readout = pretrained.readouts[session.id]
    mean, std = np.array(readout.mean), np.array(readout.std)
    ours = decode(pretrained, session, split="all", stitch="mean")
    theirs = np.load(out)
    np.testing.assert_allclose(ours.times, theirs["times"], rtol=0, atol=1e-4)
    np.testing.assert_allclose((ours.values - mean) / std, theirs["values"], rtol=0, atol=1e-5)
    r2 = r2_score(
        ours.targets[ours.scored], (theirs["values"] * std + mean).astype(np.float32)[ours.scored]
    )
    assert abs(ours.r2 - r2) < 1e-4


@pytest.mark.parametrize("name", ["simulated", "older", "real/nus_joystick_2016/set1_expt10.h5"])
def test_their_checkpoint_predicts_the_same_here(name, tmp_path, request):
    path, settings = tmp_path / "session.h5", SETTINGS
    if name == "older":  # the longest period of the formula before June 2025
        settings = SETTINGS | {"t_max": 2.0626770754424917}
    if name in ("simulated", "older"):
        tiny.simulate(0).save(path)
    else:
        path = request.getfixturevalue("shared") / name
        if not path.exists():
            pytest.skip("there are no real recordings here")
    session, checkpoint, out = Session.open(path), tmp_path / "model.ckpt", tmp_path / "out.npz"
    readout = default_readout(session)
    run_peer("make", path, session.id, checkpoint, json.dumps(settings))
    run_peer("predict", path, session.id, checkpoint, out, readout.value_key)
    assert not np.load(out)[
        "opens_without_trust"
    ]  # as the published checkpoint, for the type of the names
    pretrained = from_torch(checkpoint, readouts={session.id: readout})
    assert (pretrained.step, pretrained.config.model.residual_dropout) == (17, 0.3)
    assert (pretrained.config.model.frequencies is not None) == (name == "older")
    compare(pretrained, session, out)


def test_our_model_predicts_the_same_there(tiny_run, tiny_data, tmp_path):
    pretrained, session = poyo_jax.load(tiny_run), Session.open(tiny_data / "session_1.h5")
    save_torch(pretrained, tmp_path / "model.ckpt")
    run_peer(
        "predict",
        session.path,
        session.id,
        tmp_path / "model.ckpt",
        tmp_path / "out.npz",
        "cursor.vel",
    )
    assert np.load(tmp_path / "out.npz")["opens_without_trust"]
    compare(pretrained, session, tmp_path / "out.npz")


# --- readouts


def named(state: dict, *sessions: str) -> dict:
    return {
        **state,
        "session_emb.vocab": OrderedDict((name, row) for row, name in enumerate(("NA", *sessions))),
    }


def test_readouts_of_known_data_sets(state):
    perich = "perich_miller_population_2018"
    names = (
        f"{perich}/c_20131003_center_out_reaching",
        f"{perich}/c_20131009_random_target_reaching",
    )
    found = from_torch(named(state, *names)).readouts
    assert found == {names[0]: CENTER_OUT, names[1]: RANDOM_TARGET}
    assert from_torch(
        named(state, *names), readouts={perich: READOUT, names[0]: CENTER_OUT}
    ).readouts == {
        names[0]: CENTER_OUT,
        names[1]: READOUT,
    }


def test_given_readouts_count_more_than_stored_ones(state, tmp_path):
    state = named(state, "lab/a", "lab/b")
    save_torch(from_torch(state, readouts={"lab": READOUT}), tmp_path / "model.ckpt")
    given = {"lab": CENTER_OUT, "lab/b": RANDOM_TARGET}
    found = from_torch(tmp_path / "model.ckpt", readouts=given).readouts
    assert found == {"lab/a": CENTER_OUT, "lab/b": RANDOM_TARGET}


def test_readouts_that_are_missing_or_wrong(state):
    with pytest.raises(
        DataError,
        match=r"how the behaviour of session 'lab/a' was normalised.*readouts=\{'lab': Read",
    ):
        from_torch(named(state, "lab/a", "lab/b"))
    with pytest.raises(
        DataError, match=r"a readout for 'sesA', which is no session or data set.*mean 'sessA'"
    ):
        from_torch(state, readouts={**READOUTS, "sesA": READOUT})
    one = Readout(value_key="cursor.vel", mean=(0.0,), std=(1.0,))
    with pytest.raises(
        DataError, match="readout of session 'sessB' has 1 channel, but the model decodes 2"
    ):
        from_torch(state, readouts={**READOUTS, "sessB": one})


# --- what cannot be converted


def without(state: dict, name: str) -> dict:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            lambda s: {"fc.weight": np.zeros((2, 2))},
            "this is no POYO: it has no latent_emb.weight, but fc.weight",
        ),
        (lambda s: {}, "this is no POYO: it has no latent_emb.weight, but nothing"),
        (lambda s: without(s, "readout.bias"), "no whole POYO: readout.bias is missing"),
        (
            lambda s: without(s, "enc_atn.to_q.weight"),
            "no whole POYO: enc_atn.to_q.weight is missing",
        ),
        (
            lambda s: s | {"head.weight": np.zeros(2, np.float32)},
            "has head.weight and 0 other tensors",
        ),
        (lambda s: s | {"readout.bias": np.zeros(3, np.float32)}, "readout.weight has shape"),
        (
            lambda s: s | {"readout.bias": np.zeros(2)},
            "readout.bias is of type float64; parameters must be float32",
        ),
        (
            lambda s: without(s, "unit_emb.vocab"),
            "has no unit_emb.vocab, so the rows of its table have no names",
        ),
        (
            lambda s: s | {"unit_emb.vocab": {"NA": 0, "u": 2}},
            "does not number its 2 names from NA = 0 on",
        ),
        (
            lambda s: s | {"unit_emb.vocab": {"NA": 0, "u": 1}},
            r"unit_emb.weight has shape \(11, 32\), but",
        ),
        (
            lambda s: s | {"latent_emb.weight": np.zeros(2, np.float32)},
            r"latent_emb.weight is of shape \(2,\)",
        ),
        (
            lambda s: s | {"rotary_emb.omega": np.zeros(0, np.float32)},
            "head_dim is 0; it must be at least 1",
        ),
        (lambda s: s | {"unit_emb.vocab": {"NA": "x"}}, "does not number its 1 names"),
        (
            lambda s: s | {"rotary_emb.omega": np.zeros(8, np.float32)},
            "8 numbers, 0 of them positive; heads",
        ),
        (
            lambda s: s | {"rotary_emb.omega": np.ones(8, np.float32)},
            "8 of them positive; .* the first 4 of",
        ),
        (
            lambda s: s | {"rotary_emb.omega": np.zeros(8, np.float32) * np.nan},
            "8 numbers, 0 of them positive",
        ),
    ],
)
def test_models_that_cannot_be_converted(change, sentence, state):
    with pytest.raises(CheckpointError, match=sentence):
        from_torch({"state_dict": change(state)}, readouts=READOUTS)


@pytest.mark.parametrize(
    "settings", [{"depth": None}, {"latent_step": "fast"}, {"sequence_length": 1.1}, {"dim": 0}]
)
def test_settings_that_cannot_be_used(settings, state):
    checkpoint = {"state_dict": state, "hyper_parameters": {"model": {**SETTINGS, **settings}}}
    with pytest.raises(
        CheckpointError, match=r"settings in the checkpoint cannot be used .*Give the config"
    ):
        from_torch(checkpoint, readouts=READOUTS)


def test_a_file_of_something_else(tmp_path):
    write_torch_file(tmp_path / "a.pt", {"x": np.zeros(2, np.float32)})
    with pytest.raises(
        CheckpointError, match=r"this is no POYO: it has no latent_emb\.weight, but x"
    ):
        from_torch(tmp_path / "a.pt")


def test_other_sizes_than_the_configuration(state):
    with pytest.raises(
        CheckpointError,
        match=r"latent_emb.weight has shape \(4, 32\), but .* \(8, 32\)\. Give the Model",
    ):
        from_torch(state, config=replace(TINY, num_latents=8), readouts=READOUTS)
    with pytest.raises(CheckpointError, match=r"has proc_layers.1.*depth 1 lacks"):
        from_torch(state, config=replace(TINY, depth=1), readouts=READOUTS)
    with pytest.raises(
        CheckpointError, match=r"8 numbers, 4 of them positive; heads of 32 channels, .* need 16"
    ):
        from_torch(
            state, config=replace(TINY, head_dim=32, cross_heads=1, self_heads=1), readouts=READOUTS
        )


@pytest.mark.parametrize("name", ["omega", "inv_freq"])
def test_frequencies_of_older_checkpoints(name, state):
    """They are the checkpoint's own, to the last bit, and go back with it."""
    assert from_torch(state, readouts=READOUTS).config.model.frequencies is None
    older = np.nextafter(state.pop("rotary_emb.omega"), np.float32(1e6))
    older[4:] = 0
    pretrained = from_torch(state | {f"rotary_emb.{name}": older}, readouts=READOUTS)
    assert pretrained.config.model.frequencies == tuple(older[:4].tolist())
    assert to_torch(pretrained)["rotary_emb.omega"].tobytes() == older.tobytes()


def test_a_file_that_cannot_be_written(state, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PoyoError, match=r"file/model.ckpt cannot be written"):
        save_torch(from_torch(state, readouts=READOUTS), tmp_path / "file" / "model.ckpt")


def test_a_model_of_another_task_is_not_written(state, tmp_path):
    """torch_brain would read its standard deviations as behaviour."""
    pretrained = from_torch(state, readouts=READOUTS)
    config = pretrained.config
    model = replace(config.model, task="poyo_jax.tasks:Gaussian")
    other = replace(pretrained, config=replace(config, model=model))
    with pytest.raises(ConfigError, match=r"task 'poyo_jax\.tasks:Gaussian', but torch_brain"):
        save_torch(other, tmp_path / "model.ckpt")
    assert not list(tmp_path.iterdir())
