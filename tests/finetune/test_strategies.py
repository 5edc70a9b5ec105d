"""What each strategy moves, and that everything else keeps its bits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from poyo_jax import evaluate
from poyo_jax.distributed.mesh import put_batch
from poyo_jax.errors import ConfigError
from poyo_jax.finetune import STRATEGIES, FitConfig, finetune
from poyo_jax.finetune.coordinates import SCATTER, scatter_of_rows
from poyo_jax.finetune.setup import set_up
from poyo_jax.finetune.stage import StageStep
from poyo_jax.finetune.starts import starting_params
from poyo_jax.model.partition import join

SHORT = {"num_steps": 12, "batch_size": 8, "eval_every": 6}

LAMB = {"optimizer": "sparse_lamb", "coordinates": "plain", "prior_weight": 0.0}

NEWTON_SCHULZ = (3,)  # shape of the coefficients that optax keeps in Muon's state


def short(name: str, **changes) -> FitConfig:
    unit_steps = 6 if STRATEGIES[name].unit_steps else 0
    return replace(STRATEGIES[name], **SHORT | {"unit_steps": unit_steps} | changes)


def moved(before: dict, after: dict) -> set[str]:
    """Paths of the arrays of a backbone that differ in any bit."""
    a, b = flatten_dict(before, sep="/"), flatten_dict(after, sep="/")
    assert set(a) == set(b)
    return {path for path in a if not np.array_equal(np.asarray(a[path]), np.asarray(b[path]))}


@pytest.fixture(scope="module")
def fits(pretrained, before, tiny_sessions):
    """A short fit by every strategy, and one in which only the head and the decoder's query
    learn besides rows.
    """
    chosen = replace(short("full"), backbone_rates={"head": 1e-2, "decoder/query": 1e-3})
    configs = {name: short(name) for name in STRATEGIES} | {"chosen": chosen}
    return {
        name: finetune(pretrained, tiny_sessions[2:], config, progress=False)
        for name, config in configs.items()
    }


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("unit_identification", ()),
        ("unit_identification_paper", ()),
        ("chosen", ("head", "decoder/query")),
        ("gradual", ("",)),
        ("full", ("",)),
        ("lora", ("",)),
    ],
)
def test_what_is_outside_the_chosen_groups_keeps_its_bits(name, parts, pretrained, before, fits):
    after = fits[name].pretrained.params
    for table, count in (("unit_embedding", 25), ("session_embedding", 3)):
        np.testing.assert_array_equal(after[table][:count], before[table])
        assert len(after[table]) == count + {"unit_embedding": 12, "session_embedding": 1}[table]
    paths = moved(before["backbone"], after["backbone"])
    everything = set(flatten_dict(before["backbone"], sep="/"))
    allowed = {path for path in everything if any(path.startswith(part) for part in parts)}
    if name == "lora":
        allowed = {path for path in everything if path.endswith("kernel")}
    assert paths == allowed
    jax.tree.map(
        np.testing.assert_array_equal, pretrained.params, before
    )  # the given model did not change


def test_a_model_from_scratch_knows_the_new_session_alone(fits, pretrained, before, tiny_sessions):
    scratch = fits["from_scratch"].pretrained
    assert scratch.sessions.names == (tiny_sessions[2].id,) == tuple(scratch.readouts)
    assert scratch.units.names == tiny_sessions[2].unit_names
    assert (
        scratch.params["unit_embedding"].shape == (13, 16)
        and not scratch.params["unit_embedding"][0].any()
    )
    assert len(moved(before["backbone"], scratch.params["backbone"])) == len(
        jax.tree.leaves(before["backbone"])
    )
    assert np.isfinite(evaluate(scratch, tiny_sessions[2:]).mean)
    assert len(fits["from_scratch"].units.new) == 12 and not fits["from_scratch"].units.kept


def test_frozen_parameters_have_no_optimiser_state(pretrained, tiny_sessions):
    """Rows and vectors have two moments, matrices one."""
    rows, backbone = (
        (13 + 2) * 16,
        jax.tree_util.tree_leaves_with_path(pretrained.params["backbone"]),
    )
    matrices = sum(x.size for path, x in backbone if path[-1].key == "kernel")
    others = sum(x.size for _, x in backbone) - matrices
    sizes = {"unit_identification": 0, "lora": 0, "full": 0}
    for name in sizes:
        setup = set_up(pretrained, tiny_sessions[2:], short(name), {}, "refuse")
        params = starting_params(setup, {})
        state = StageStep(setup, short(name).stages[-1], params, params).start()
        sizes[name] = sum(
            x.size
            for x in jax.tree.leaves(state.opt_state.moments)
            if x.ndim and x.shape != NEWTON_SCHULZ
        )
    assert (
        sizes["unit_identification"] == 2 * rows and sizes["full"] == 2 * (rows + others) + matrices
    )
    assert 2 * rows < sizes["lora"] < 2 * (rows + others + matrices)


def test_gradual_fits_units_first(pretrained, fits, tiny_sessions):
    """Its first half is unit identification, whose schedule is as long as that half."""
    config = replace(short("gradual"), num_steps=6, unit_steps=0, backbone_rates={})
    alone = finetune(pretrained, tiny_sessions[2:], config, progress=False)
    own, of_both = alone.history[1], fits["gradual"].history[1]
    assert (own["loss"], own["valid_r2"]) == (of_both["loss"], of_both["valid_r2"])


@pytest.mark.parametrize("name", ["lora", "gradual"])
def test_the_seed_decides_everything(name, pretrained, fits, tiny_sessions):
    again = finetune(pretrained, tiny_sessions[2:], short(name), progress=False)
    jax.tree.map(
        np.testing.assert_array_equal, again.pretrained.params, fits[name].pretrained.params
    )


def test_a_session_that_is_known_is_fitted_again_from_its_rows(pretrained, before, tiny_sessions):
    config = short("unit_identification", learning_rate=1e-6)
    fit = finetune(
        pretrained, tiny_sessions[1:2], config, known="refit", keep_snapshots=True, progress=False
    )
    np.testing.assert_array_equal(fit.snapshots[0], before["unit_embedding"][13:])
    after = fit.pretrained
    assert (after.units, after.sessions) == (pretrained.units, pretrained.sessions)
    np.testing.assert_array_equal(
        after.params["unit_embedding"][:13], before["unit_embedding"][:13]
    )
    np.testing.assert_allclose(
        after.params["unit_embedding"], before["unit_embedding"], rtol=0, atol=1e-4
    )
    assert after.readouts == pretrained.readouts
    assert str(fit.units) == "24 kept, 0 new, 0 dropped"


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (
            "gradua",
            (
                r"there is no strategy 'gradua'. Did you mean 'gradual'\? Choose"
                r" auto, unit_identification, unit_identification_paper, head, gradual"
            ),
        ),
        (
            FitConfig(backbone_rates={"haed": 1.0}),
            r"no part 'haed' to learn. Did you mean 'head'\? Parts are",
        ),
    ],
)
def test_unknown_names(strategy, text, pretrained, tiny_sessions):
    with pytest.raises(ConfigError, match=text):
        finetune(pretrained, tiny_sessions[2:], strategy, progress=False)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"starts": "tuned"}, "starts is 'tuned'; it must be 'informed' or 'random'"),
        ({"coordinates": "own"}, "coordinates is 'own'; it must be 'trained' or 'plain'"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; it must be 'muon' or 'sparse_lamb'"),
        (
            LAMB | {"head_rate": 0.5},
            r"head_rate is 0.5; it must be None or 0\.\d+ with sparse_lamb",
        ),
        (
            {"optimizer": "sparse_lamb"},
            "coordinates is 'trained'; it must be 'plain' with the optimiser sparse_lamb",
        ),
        (
            {"optimizer": "sparse_lamb", "coordinates": "plain"},
            "prior_weight is 0.1; it must be 0 with the optimiser sparse_lamb",
        ),
        (
            LAMB | {"backbone_rates": {"": 1e-3}, "learning_rate": 2e-3},
            r"backbone_rates is .*; it must be of rates equal to learning_rate = 0.002",
        ),
        ({"backbone_rates": {"": 0.0}}, "backbone_rates is .* must be of positive rates"),
        ({"unit_steps": 400}, "unit_steps is 400; it must be below num_steps = 400"),
        ({"rank": 0, "backbone_rates": {"": 1.0}}, "rank is 0; it must be at least 1"),
        ({"rank": 4}, "rank is 4; it must be None when no part of the backbone learns"),
        ({"fresh": True}, "fresh is True; it must be False when no part"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be at least 0"),
        ({"num_trials": 0}, "num_trials is 0; it must be at least 1, or None"),
        (
            {"num_trials": 4, "num_labelled_seconds": 4.0},
            "num_trials is 4; it must be None when num_labelled_seconds",
        ),
    ],
)
def test_settings_that_cannot_work(changes, text):
    with pytest.raises(ConfigError, match=f"FitConfig.{text}"):
        FitConfig(**changes)


def test_low_rank_updates_are_those_of_a_low_rank_forward_pass(pretrained, tiny_sessions):
    """x (W + down up) = x W + (x down) up, in every matrix."""
    setup = set_up(pretrained, tiny_sessions[2:], short("lora"), {}, "refuse")
    params = starting_params(setup, {})
    stage_step = StageStep(setup, short("lora").stages[-1], params, params)
    factors = jax.tree.map(lambda x: x + 0.1, stage_step.start().params["low_rank"])
    merged = flatten_dict(join({"low_rank": factors}, stage_step.fixed.frozen)[0])
    flat, own = flatten_dict(factors), flatten_dict(stage_step.fixed.frozen["backbone"])
    for path in {path[:-1] for path in flat}:
        x = jnp.asarray(
            np.random.default_rng(0).standard_normal((1, own[path].shape[-2])), jnp.float32
        )
        expected = x @ own[path] + (x @ flat[*path, "down"]) @ flat[*path, "up"]
        np.testing.assert_allclose(x @ merged[path], expected, rtol=0, atol=1e-4)
        assert min(flat[*path, "down"].shape[-1], 8) == flat[*path, "up"].shape[-2]


# --- unit identification as published


def first_rows(fit) -> np.ndarray:
    return fit.snapshots[0]


def test_the_published_method_starts_from_random_rows(pretrained, tuned, tiny_sessions):
    """The tuning map and the trained rows do not matter, nor do known units of the same ids."""
    config = short("unit_identification_paper", num_steps=1)
    days = {}
    for name, model in (("plain", pretrained), ("tuned", tuned)):
        fit = finetune(model, tiny_sessions[2:], config, keep_snapshots=True, progress=False)
        days[name] = first_rows(fit)
    np.testing.assert_array_equal(days["plain"], days["tuned"])
    rows = days["tuned"]
    assert abs(rows.std() - SCATTER) < 0.1 * SCATTER and abs(rows.mean()) < 0.2 * SCATTER
    other_seed = finetune(
        tuned,
        tiny_sessions[2:],
        replace(config, seed=1),
        keep_snapshots=True,
        progress=False,
    )
    assert np.abs(first_rows(other_seed) - rows).max() > SCATTER


def test_random_starts_try_no_candidates(tuned, tiny_sessions, caplog):
    caplog.set_level("INFO", logger="poyo_jax")
    setup = set_up(tuned, tiny_sessions[2:], short("unit_identification_paper"), {}, "refuse")
    starting_params(setup, None)
    assert f"{tiny_sessions[2].id} starts from random rows" in caplog.messages


def first_step(tuned, session, **changes) -> np.ndarray:
    """Change of the unit rows in the first step, from random rows."""
    config = FitConfig(
        num_steps=9,  # too few for a warm-up
        starts="random",
        prior_weight=0.0,
        learning_rate=1e-3,
        batch_size=8,
        **changes,
    )
    setup = set_up(tuned, [session], config, {}, "refuse")
    params = starting_params(setup, None)
    stage_step = StageStep(setup, config.stages[0], params, params)
    batch = put_batch(setup.batches[0], setup.mesh)
    state, _ = stage_step(stage_step.start(), batch)
    change = np.asarray(state.params["unit_embedding"]) - np.asarray(params["unit_embedding"])
    return change[1:]


def test_rows_move_in_plain_coordinates(tuned, tiny_sessions):
    """The first step of Adam moves each coordinate by the rate."""
    plain = first_step(tuned, tiny_sessions[2], coordinates="plain")
    np.testing.assert_allclose(np.abs(plain), 1e-3, rtol=0.01)
    trained = first_step(tuned, tiny_sessions[2], coordinates="trained")
    axes = scatter_of_rows(np.asarray(tuned.params["unit_embedding"]))
    np.testing.assert_allclose(np.abs(trained @ np.linalg.inv(axes)), 1e-3, rtol=0.02)
    assert np.abs(np.abs(trained) - 1e-3).max() > 1e-4


def test_the_published_optimiser_is_that_of_pretraining(tuned, tiny_sessions):
    """Its first step moves a table by the rate times the norm of the table."""
    config = short("unit_identification_paper")
    setup = set_up(tuned, tiny_sessions[2:], config, {}, "refuse")
    params = starting_params(setup, None)
    stage_step = StageStep(setup, config.stages[0], params, params)
    batch = put_batch(setup.batches[0], setup.mesh)
    state, _ = stage_step(stage_step.start(), batch)
    for table in ("unit_embedding", "session_embedding"):
        before, after = np.asarray(params[table]), np.asarray(state.params[table])
        norm = np.linalg.norm(before)
        assert np.linalg.norm(after - before) == pytest.approx(8e-3 * norm, rel=1e-3)


def test_the_published_method_learns(tuned, before, tiny_sessions):
    config = short("unit_identification_paper", num_steps=150, batch_size=16, eval_every=75)
    fit = finetune(tuned, tiny_sessions[2:], config, progress=False)
    assert fit.valid_r2 > fit.history[0]["valid_r2"] + 0.1
    assert not moved(before["backbone"], fit.pretrained.params["backbone"])
