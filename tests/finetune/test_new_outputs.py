"""Adapting a model to outputs that it lacks, and calibrated error bars."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

from poyo_jax import (
    decode,
    decode_outputs,
    evaluate,
    evaluate_outputs,
    fit_units,
    load,
    measure_readout,
    train_model,
    with_outputs,
)
from poyo_jax.config import OutputConfig
from poyo_jax.data.simulate import add_behaviours
from poyo_jax.decoding.calibration import LEVELS, calibrate, coverage, width_of
from poyo_jax.errors import ConfigError, DataError
from poyo_jax.finetune import STRATEGIES, FitConfig, finetune
from poyo_jax.finetune.setup import set_up
from poyo_jax.more_outputs import add_outputs
from poyo_jax.surgery import merge_models, rename_sessions, subset_sessions
from poyo_jax.types import Prediction, each_readout

STEPS = 4
HEAD = replace(STRATEGIES["head"], num_steps=STEPS, eval_every=2, batch_size=8)


@pytest.fixture(scope="module")
def model(tiny_run):
    """A model of one plain velocity."""
    return load(tiny_run)


@pytest.fixture(scope="module")
def session():
    return add_behaviours(tiny.simulate(2))


@pytest.fixture(scope="module")
def emg(session):
    return measure_readout(session, "emg.envelope", name="emg")


@pytest.fixture(scope="module")
def directions(session):
    return measure_readout(session, "reach.direction", name="direction", kind="classes")


@pytest.fixture(scope="module")
def adapted(model, session, emg, directions):
    readouts = {session.id: [emg, directions]}
    return finetune(model, session, HEAD, readouts=readouts, progress=False).pretrained


def leaves(tree):
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def test_a_new_head_learns_and_everything_else_keeps_its_bits(model, adapted):
    before, after = leaves(model.params["backbone"]), leaves(adapted.params["backbone"])
    for path, leaf in before.items():
        path = path.replace("['head']", "['head']['to_cursor_vel']")
        assert np.asarray(after[path]).tobytes() == np.asarray(leaf).tobytes(), path
    assert set(adapted.params["backbone"]["head"]) == {
        "to_cursor_vel",
        "to_emg",
        "to_direction",
        "embedding",
    }
    assert not np.asarray(adapted.params["backbone"]["head"]["embedding"])[0].any()
    names = [output.name for output in adapted.config.model.outputs]
    assert names == ["cursor_vel", "emg", "direction"]
    assert {"valid_emg_r2", "valid_direction_accuracy"} < set(adapted.metrics)


def test_a_model_with_new_outputs_decodes_the_known_sessions_as_before(
    model, adapted, tiny_sessions, tmp_path
):
    before = decode(model, tiny_sessions[0])
    after = decode(adapted, tiny_sessions[0])
    assert after.output == "cursor_vel"
    np.testing.assert_allclose(after.values, before.values, atol=1e-4)
    adapted.save(tmp_path)
    again = decode(load(tmp_path), tiny_sessions[0])
    np.testing.assert_array_equal(again.values, after.values)


def test_a_new_session_is_decoded_by_its_new_heads(adapted, session):
    decoded = decode_outputs(adapted, session)
    assert decoded["emg"].values.shape[1] == 12 and list(decoded) == ["emg", "direction"]
    assert decoded["direction"].probabilities.shape[1] == 8


def test_a_known_output_uses_its_head_and_fit_units_says_that_a_head_is_needed(
    model, adapted, session, emg
):
    readouts = {session.id: emg}
    with pytest.raises(ConfigError, match=r"decodes 'cursor_vel', but not 'emg': a head is needed"):
        fit_units(model, session, readouts=readouts, progress=False)
    setup = set_up(adapted, [session], FitConfig(), readouts, "refit")
    assert setup.new_heads == () and setup.pretrained is adapted


def test_a_new_head_learns_as_a_whole_where_all_else_learns_at_low_rank(model, session, emg):
    config = FitConfig(
        num_steps=2, eval_every=2, batch_size=8, backbone_rates={"": 1e-3}, rank=1, head_rate=1e-2
    )
    fit = finetune(model, session, config, readouts={session.id: emg}, progress=False)
    start = add_outputs(model, fit.pretrained.config.model.outputs[1:], config.seed)
    before, after = leaves(start.params["backbone"]), leaves(fit.pretrained.params["backbone"])
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert {"['head']['to_emg']['bias']", "['head']['to_emg']['kernel']"} < moved
    assert "['decoder']['query']['kernel']" in moved
    assert "['decoder']['output']['bias']" not in moved
    assert "['head']['to_cursor_vel']['bias']" not in moved


def test_a_session_without_a_readout_takes_the_output_of_its_behaviour(model, adapted):
    """The known sessions call cursor.vel by the name of the output, which is here another one."""
    readouts = dict(adapted.readouts)
    for name in model.readouts:
        readouts[name] = replace(readouts[name], name="hand")
    first, *others = adapted.config.model.outputs
    outputs = (replace(first, name="hand"), *others)
    config = replace(adapted.config, model=replace(adapted.config.model, outputs=outputs))
    head = dict(adapted.params["backbone"]["head"])
    head["to_hand"] = head.pop("to_cursor_vel")
    params = {**adapted.params, "backbone": {**adapted.params["backbone"], "head": head}}
    renamed = replace(adapted, config=config, params=params, readouts=readouts)
    setup = set_up(renamed, [tiny.simulate(4)], FitConfig(), {}, "refuse")
    assert setup.new_heads == () and setup.pretrained is renamed
    assert each_readout(setup.readouts[tiny.simulate(4).id])[0].name == "hand"


def test_a_model_from_scratch_has_the_outputs_of_its_sessions_alone(model, session, emg):
    config = replace(STRATEGIES["from_scratch"], num_steps=2, eval_every=2, batch_size=8)
    fit = finetune(model, session, config, readouts={session.id: emg}, progress=False)
    assert [output.name for output in fit.pretrained.config.model.outputs] == ["emg"]
    assert evaluate(fit.pretrained, session).metric.name == "r2"


def test_a_model_from_scratch_forgets_the_error_bars_of_the_other(model, session, emg):
    """They were calibrated for other weights, and a session without a valid split has none."""
    calibrated = replace(model, calibration={"emg": (2.0, 3.0)}, fit=FitConfig())
    config = replace(STRATEGIES["from_scratch"], num_steps=2)
    setup = set_up(calibrated, [session], config, {session.id: emg}, "refuse")
    assert setup.pretrained.calibration == {} and setup.pretrained.fit is None


def test_a_fit_in_several_processes_is_refused(model, session, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"a fit runs in one process, but jax sees 2 of them\."):
        set_up(model, [session], FitConfig(), {}, "refuse")


def test_two_outputs_of_one_name_are_refused(adapted):
    with pytest.raises(DataError, match=r"has an output 'emg' already. Give the new one another"):
        add_outputs(adapted, [OutputConfig(name="emg")])
    assert add_outputs(adapted, []) is adapted


# --- error bars


def claims(session_id="a", scale=1.0, seed=0, samples=4000):
    """A prediction of two channels whose errors are `scale` and twice that of what it claims."""
    rng = np.random.default_rng(seed)
    std = rng.uniform(0.5, 2, (samples, 2))
    errors = rng.normal(size=(samples, 2)) * std * [scale, 2 * scale]
    return Prediction(
        session_id, np.arange(samples) / 10, np.zeros((samples, 2)), errors, np.ones(samples, bool),
        std=std,
    )  # fmt: skip


def test_factors_make_the_claimed_intervals_true():
    predictions = [claims("a", 1.5), claims("b", 1.5, seed=1)]
    factors = calibrate(predictions)
    assert factors == pytest.approx((1.5, 3.0), rel=0.04)
    before = coverage(predictions)
    calibrated = [replace(each, std=each.std * np.array(factors)) for each in predictions]
    after = coverage(calibrated)
    assert before.error > 0.2 and after.error < 0.02
    assert after.coverage == pytest.approx({0.5: 0.5, 0.8: 0.8, 0.95: 0.95}, abs=0.02)
    np.testing.assert_allclose(after.observed, LEVELS, atol=0.02)
    assert width_of(0.95) == pytest.approx(1.96, abs=0.001)


def test_probabilities_of_classes_are_calibrated_if_they_are_right_as_often_as_they_say():
    rng = np.random.default_rng(0)
    likeliest = rng.uniform(0.5, 1, 20_000)
    right = rng.random(20_000) < likeliest
    values = np.zeros((20_000, 1))
    prediction = Prediction(
        "a", np.arange(20_000.0), values, np.where(right, 0.0, 1.0)[:, None], values[:, 0] == 0,
        probabilities=np.stack([likeliest, 1 - likeliest], axis=1),
    )  # fmt: skip
    honest = coverage([prediction])
    assert honest.error < 0.02 and honest.coverage == {}
    bold = replace(prediction, probabilities=prediction.probabilities**4)
    assert coverage([bold]).error > 0.1
    assert coverage([replace(prediction, probabilities=None)]) is None
    assert calibrate([prediction]) is None


@pytest.fixture(scope="module")
def gaussian(tiny_sessions, tmp_path_factory):
    """A model of one output with a learned spread, and its folder."""
    folder = tmp_path_factory.mktemp("gaussian")
    config = tiny.config(num_steps=30, eval_every=30, save_every=30)
    readouts = {each.id: measure_readout(each, "cursor.vel") for each in tiny_sessions[:2]}
    config = with_outputs(config, readouts, tiny_sessions[:2], spread=True)
    return train_model(config, tiny_sessions[:2], folder, progress=False), folder


def test_a_learned_spread_is_calibrated_on_the_valid_split_and_saved(gaussian, tiny_sessions):
    model, folder = gaussian
    (factors,) = model.calibration.values()
    assert len(factors) == 2 and min(factors) > 0
    assert load(folder).calibration == model.calibration
    valid = evaluate(model, tiny_sessions[:2], "valid", overlap=2)
    assert valid.calibration.coverage[0.8] == pytest.approx(0.8, abs=0.01)
    prediction = decode(model, tiny_sessions[0])
    raw = decode(replace(model, calibration={}), tiny_sessions[0])
    np.testing.assert_allclose(prediction.std, raw.std * np.array(factors))
    assert prediction.std.shape == prediction.values.shape and (prediction.std > 0).all()
    assert 0 < evaluate_outputs(model, tiny_sessions[0])["cursor_vel"].calibration.error < 0.5


def test_a_fit_calibrates_its_session_alone(gaussian, tiny_sessions, tmp_path):
    (model, _), (known, _, new) = gaussian, tiny_sessions
    config = FitConfig(num_steps=2, eval_every=2, batch_size=8)
    fitted = fit_units(model, new, config, progress=False).pretrained
    valid = evaluate(fitted, new, "valid")
    assert valid.calibration.coverage[0.8] == pytest.approx(0.8, abs=0.01)
    before, after = decode(model, known), decode(fitted, known)
    np.testing.assert_array_equal(before.std, after.std)
    own = fitted.session_calibration
    assert own.keys() == {new.id} and own[new.id] != model.calibration
    fitted.save(tmp_path / "model")
    assert load(tmp_path / "model").session_calibration == own
    assert subset_sessions(fitted, known.id).session_calibration == {}
    renamed = rename_sessions(fitted, {new.id: "lab/monday"})
    assert renamed.session_calibration == {"lab/monday": own[new.id]}
    assert merge_models(model, fitted).session_calibration == own
