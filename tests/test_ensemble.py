"""Ensembles: trained as one run, decoded and saved as one model, joined and taken apart."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import poyo_jax
from poyo_jax import decode, evaluate, load, train_model
from poyo_jax.config import ModelConfig, to_dict
from poyo_jax.decoding import StreamDecoder, WindowDecoder
from poyo_jax.ensemble import join, members_of
from poyo_jax.errors import CheckpointError, ConfigError, DataError
from poyo_jax.surgery import subset_sessions
from poyo_jax.train.reliability.health import effective_ranks
from poyo_jax.train.writers import read_metrics

MEMBERS = 2


def ensemble_config(members=MEMBERS):
    config = tiny.config(num_steps=12, log_every=4, eval_every=12, save_every=6)
    return replace(config, model=replace(config.model, members=members))


def train(config, sessions, workdir, **kwargs):
    return train_model(config, sessions[:2], workdir, progress=False, **kwargs)


@pytest.fixture(scope="module")
def workdir(tiny_sessions, tmp_path_factory):
    """Work directory of an ensemble."""
    folder = tmp_path_factory.mktemp("ensemble") / "run"
    train(ensemble_config(), tiny_sessions, folder)
    return folder


@pytest.fixture(scope="module")
def ensemble(workdir):
    return load(workdir)


@pytest.fixture(scope="module")
def session(tiny_sessions):
    return tiny_sessions[0]


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_run_of_members_is_one_model(ensemble, workdir):
    leaves = jax.tree.leaves(ensemble.params)
    assert {leaf.shape[0] for leaf in leaves} == {MEMBERS}
    first, second = members_of(ensemble)
    assert ensemble.num_backbone == 2 * first.num_backbone
    assert not np.array_equal(first.params["unit_embedding"], second.params["unit_embedding"])
    assert repr(ensemble).startswith("Pretrained(ensemble of 2; dim 16 x depth 1, ")
    assert len(list((workdir / "checkpoints" / "12").glob("params"))) == 1
    logged = [line["effective_rank"] for line in read_metrics(workdir) if "effective_rank" in line]
    ranks = [effective_ranks(member.params) for member in (first, second)]
    least = {name: min(of[name] for of in ranks) for name in ranks[0]}
    assert logged == [pytest.approx(least, rel=1e-4)]


def test_an_ensemble_decodes_the_mean_of_its_members(ensemble, session):
    together = decode(ensemble, session)
    alone = [decode(member, session) for member in members_of(ensemble)]
    assert np.abs(alone[0].values - alone[1].values).max() > 1e-3
    mean = np.mean([each.values for each in alone], axis=0)
    np.testing.assert_allclose(together.values, mean, rtol=0, atol=1e-5)
    for name in ("times", "targets", "scored"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone[0], name))
    assert evaluate(ensemble, session).r2[session.id] == pytest.approx(together.r2)


def test_single_windows_and_streams_decode_the_mean(ensemble, session):
    start, queries = 20.0, [0.2, 0.9]
    inside = (session.spike_times >= start) & (session.spike_times < start + 1)
    times, units = session.spike_times[inside] - start, session.spike_units[inside]
    together, *alone = (
        WindowDecoder(model, session)(times, units, queries)
        for model in (ensemble, *members_of(ensemble))
    )
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=0, atol=1e-5)
    stream = StreamDecoder(ensemble, session, queries=[0.1])
    stream.push(times, units)
    np.testing.assert_allclose(stream.predict(1.0).values, together[1:], rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="back end computes a single model, and this is an ensem"):
        stream.save("rig.poyo")


def test_the_validation_score_is_that_of_the_ensemble(ensemble, tiny_sessions):
    score = evaluate(ensemble, tiny_sessions[:2], "valid").mean
    assert ensemble.metrics["valid_r2"] == pytest.approx(score, abs=0.01)  # of other windows


def test_members_that_are_joined_again_are_the_ensemble(ensemble, session):
    joined = join(members_of(ensemble))
    assert_equal(joined.params, ensemble.params)
    assert joined.config == ensemble.config and joined.units == ensemble.units
    assert joined.metrics == {} and joined.tuning is None
    np.testing.assert_array_equal(decode(joined, session).values, decode(ensemble, session).values)
    single = members_of(ensemble)[0]
    assert members_of(single) == [single]


@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_a_saved_ensemble_is_one_model(name, ensemble, session, tmp_path):
    ensemble.save(tmp_path / name)
    opened = load(tmp_path / name)
    assert_equal(opened.params, ensemble.params)
    assert opened.metadata == replace(ensemble.metadata, config=opened.config)
    assert opened.config.model == ensemble.config.model
    card = tmp_path / name / "README.md" if name == "folder" else tmp_path / "file.md"
    assert "an ensemble of 2 [POYO]" in card.read_text()


def test_a_run_of_members_goes_on_bit_for_bit(workdir, tiny_sessions, ensemble, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "12")
    resumed = train(ensemble_config(), tiny_sessions, tmp_path / "run", resume="must")
    assert_equal(resumed.params, ensemble.params)


def test_a_run_can_start_from_an_ensemble(ensemble, workdir, tiny_sessions, tmp_path):
    with pytest.raises(ConfigError, match=r"other sizes:\n  model.members: 2 in the run, 3 given"):
        train(ensemble_config(3), tiny_sessions, tmp_path, init_from=workdir)


# --- what no ensemble can be made of


def test_another_number_of_members_is_another_run(workdir, tiny_sessions):
    with pytest.raises(ConfigError, match=r"model.members: 2 in the run, 3 given\nContinue that"):
        train(ensemble_config(3), tiny_sessions, workdir)


@pytest.mark.unchecked
def test_numbers_of_members():
    for members in (0, 101, 2.5):
        with pytest.raises(ConfigError, match=f"ModelConfig.members is {members}; it must be"):
            ModelConfig(members=members)


def test_single_models_say_nothing_of_members():
    """Older versions of poyo_jax can load them."""
    assert "members" not in to_dict(tiny.config())["model"]
    assert to_dict(ensemble_config())["model"]["members"] == MEMBERS


def test_members_that_do_not_fit_each_other(ensemble):
    first, second = members_of(ensemble)
    wide = replace(second, config=replace(second.config, model=ModelConfig(dim=32)))
    with pytest.raises(DataError, match="member 1 of the ensemble has dim = 32 in place of the 16"):
        join([first, wide])
    other = replace(second, units=second.units.rename({second.units.names[0]: "another"}))
    with pytest.raises(DataError, match="member 1 of the ensemble has other units than member 0"):
        join([first, other])
    other = replace(second, readouts={})
    with pytest.raises(DataError, match="member 1 of the ensemble has other readouts than member"):
        join([first, other])


def test_members_that_are_not_there(ensemble):
    single = members_of(ensemble)[0]
    for few in ([], [single]):
        with pytest.raises(DataError, match=f"two models or more, but got {len(few)}. Give all"):
            join(few)


@pytest.mark.unchecked
def test_members_that_are_no_models(ensemble):
    single = members_of(ensemble)[0]
    with pytest.raises(DataError, match="needs a list of models, but got a single one"):
        join(single)
    with pytest.raises(DataError, match="a model is needed, but got None"):
        join([single, None])
    with pytest.raises(DataError, match=r"but got 'runs/other', of type str. Load it first"):
        join([single, "runs/other"])
    with pytest.raises(DataError, match="a single model is needed, but got an ensemble of 2"):
        join([single, ensemble])


def test_a_file_that_lacks_a_member(ensemble, tmp_path):
    path = tmp_path / "whole.safetensors"
    ensemble.save(path)
    with safe_open(path, "numpy") as file:
        header = file.metadata()
    arrays = {name: array[:1] for name, array in load_file(path).items()}
    save_file(arrays, tmp_path / "half.safetensors", header)
    text = r"ModelConfig.members does not fit: .* has shape \(1, .* the configuration needs \(2, "
    with pytest.raises(CheckpointError, match=text):
        load(tmp_path / "half.safetensors")


def test_a_folder_that_lacks_a_file(ensemble, tmp_path):
    ensemble.save(tmp_path / "model")
    largest = max((tmp_path / "model").rglob("d/*"), key=lambda path: path.stat().st_size)
    largest.unlink()
    with pytest.raises(CheckpointError, match=f"{largest.name} is missing"):
        load(tmp_path / "model")


def test_what_takes_single_models_says_so(ensemble, session, tmp_path):
    takers = {
        "fit_units": lambda: poyo_jax.fit_units(ensemble, session),
        "to_torch": lambda: poyo_jax.to_torch(ensemble),
        "Decoder": lambda: poyo_jax.Decoder(ensemble),
        "subset_sessions": lambda: subset_sessions(ensemble, [session.id]),
    }
    for name, take in takers.items():
        with pytest.raises(DataError, match=r"an ensemble of 2. Give one of poyo_jax.ensemble"):
            take()
            pytest.fail(name)
