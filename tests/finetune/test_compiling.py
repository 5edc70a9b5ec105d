"""A second fit or run of equal shapes compiles nothing."""

import sys
from dataclasses import replace

import jax
import tiny

from poyo_jax import evaluate
from poyo_jax.config import OptimConfig
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.finetune import FitConfig, finetune
from poyo_jax.model.build import build_model
from poyo_jax.surgery import subset_sessions
from poyo_jax.tasks import Regression
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.step import make_train_step

CONFIG = FitConfig(num_steps=2, unit_steps=1, backbone_rates={"": 1e-3}, batch_size=8, eval_every=1)
OTHER = replace(
    CONFIG,
    num_steps=3,
    seed=1,
    learning_rate=0.1,
    backbone_rates={"": 2e-3, "head": 1e-2},
    prior_weight=0.3,
)


def test_a_second_fit_compiles_nothing(pretrained, tiny_sessions):
    """Lengths, seeds, rates, priors and rows are data: they differ between the two fits."""
    events = []

    def listen(event, seconds, **_):
        events.append(event)

    def fit_and_evaluate(config: FitConfig, **kwargs) -> None:
        fit = finetune(pretrained, tiny_sessions[2:], config, progress=False, **kwargs)
        evaluate(fit.pretrained, tiny_sessions[2:], "valid")

    jax.clear_caches()  # other tests have compiled what this one listens for
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fit_and_evaluate(CONFIG)
        assert any("compile" in event for event in events), "compilations are not heard"
        events.clear()
        fit_and_evaluate(OTHER, start_from=tiny_sessions[0].id)
        assert not events
    finally:
        jax.monitoring.clear_event_listeners()


def test_models_with_other_units_share_the_program_that_predicts(pretrained, tiny_sessions):
    programs = []

    def listen(event, seconds, fun_name="", **_):
        programs.append(f"{event} {fun_name}")

    fewer = subset_sessions(pretrained, [tiny_sessions[0].id])
    assert fewer.units.num_rows < pretrained.units.num_rows
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        evaluate(fewer, tiny_sessions[:1], "valid")
        assert any("predict_step" in program for program in programs)
        programs.clear()
        evaluate(pretrained, tiny_sessions[:1], "valid")
        assert programs and not any("predict_step" in program for program in programs)
    finally:
        jax.monitoring.clear_event_listeners()


def model_and_step(config):
    """A model, and its training step."""
    mesh = make_mesh()
    model = build_model(config.model, config.run, 10, 3)
    rule = choose_optimizer(OptimConfig(name="adamw"), mesh)
    return model, make_train_step(model, rule.follow, mesh, microbatch_windows=None)


def test_equal_settings_share_a_step_until_a_class_is_defined_again(monkeypatch):
    """A notebook may define a class twice; then the step of the first one is stale."""

    def define() -> type:
        return type("Own", (Regression,), {})

    config = tiny.config()
    config = replace(config, model=replace(config.model, task=f"{__name__}:Own"))
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Own", define(), raising=False)
    model, step = model_and_step(config)
    again = model_and_step(config)
    assert again[0] == model and again[1] is step
    monkeypatch.setattr(module, "Own", define())
    changed, own_step = model_and_step(config)
    assert changed != model and own_step is not step
