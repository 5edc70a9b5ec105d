"""Numbers that a caller gives: what is allowed, and the sentence for what is not."""

import math
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass

import numpy as np
import pytest

from poyo_jax.baselines import KalmanSearch, NetworkSearch, WienerSearch
from poyo_jax.checks import SEED, check_fields, check_number, check_numbers, integer, number
from poyo_jax.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    UnitDropoutConfig,
)
from poyo_jax.data.simulate import simulate_session, simulate_study
from poyo_jax.errors import ConfigError
from poyo_jax.finetune import FitConfig
from poyo_jax.presets import demo, with_steps

REFUSED = [
    (integer(1), 0, "it must be at least 1. Change it"),
    (integer(1, 5), 6, "it must be at most 5. Change it"),
    (integer(1), 1.0, "it must be an integer, at least 1. Change it"),
    (integer(1), True, "it must be an integer, at least 1. Change it"),
    (integer(1), np.bool_(True), "it must be an integer, at least 1. Change it"),
    (integer(1), "3", "is '3'; it must be an integer"),
    (integer(1), None, "is None; it must be an integer"),
    (integer(1, or_none=True), 0, "it must be at least 1, or None"),
    (number(above=0), 0, "it must be positive. Change it"),
    (number(above=0, or_none=True), -1, "it must be positive or None"),
    (number(above=0), math.nan, "is nan; it must be finite and positive"),
    (number(at_least=0), math.inf, "is inf; it must be finite and at least 0"),
    (number(at_least=0), 10**400, "it must be finite and at least 0"),
    (number(at_least=0, below=1), 1, r"it must be in \[0, 1\)"),
    (number(above=0, at_most=1), 0, r"it must be in \(0, 1\]"),
    (number(above=0, below=1), "a", "it must be a number, between 0 and 1"),
    (number(), math.nan, "it must be finite and of any size"),
    (number(at_least=0), np.ones(2), "it must be a number, at least 0"),
    (number(at_least=0), 1 + 0j, "it must be a number, at least 0"),
    (SEED, 2**32, "it must be at most 4294967295"),
]


@pytest.mark.parametrize(("allowed", "value", "text"), REFUSED)
def test_what_is_not_allowed(allowed, value, text):
    with pytest.raises(ConfigError, match=text):
        check_number("it", value, allowed)


def test_what_is_allowed():
    for allowed, values in {
        integer(1, 5): (1, 5, np.int8(3)),
        number(at_least=0, below=1): (0, 0.5, np.float32(0.25)),
        number(above=0, or_none=True): (None, 1e-300, 7),
    }.items():
        for value in values:
            check_number("it", value, allowed)
        check_numbers("it", list(values), allowed)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "rates is empty; it must have at least one number"),
        ("12", "rates is '12'; it must be a sequence of numbers"),
        (3, "rates is 3; it must be a sequence of numbers"),
        ([1.0, -1.0], r"rates\[1\] is -1.0; it must be positive"),
    ],
)
def test_every_number_of_a_sequence_is_checked(values, text):
    with pytest.raises(ConfigError, match=text):
        check_numbers("rates", values, number(above=0))


def test_numbers_of_numpy_become_those_of_python():
    @dataclass(frozen=True)
    class Settings:
        count: int = 3

    settings = Settings(np.int64(4))  # type: ignore[arg-type]
    check_fields(settings, count=integer(1))
    assert type(settings.count) is int
    with pytest.raises(FrozenInstanceError):
        settings.count = 5  # type: ignore[misc]


SETTINGS = [
    ModelConfig(),
    UnitDropoutConfig(),
    DataConfig(),
    OptimConfig(),
    MeshConfig(),
    RunConfig(),
    FitConfig(),
    WienerSearch(),
    KalmanSearch(),
    NetworkSearch(network="gru", hidden=(8,)),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_every_number_of_every_setting_has_a_range(settings):
    """No setting takes NaN, infinity, text, a complex number or a negative one."""
    checked = 0
    for item in fields(settings):
        value = getattr(settings, item.name)
        numeric = isinstance(value, int | float | tuple) and not isinstance(value, bool)
        optional = "None" in str(item.type) and "str" not in str(item.type)
        if is_dataclass(value) or not (numeric or optional):
            continue
        for wrong in (math.nan, math.inf, "many", 1j, -1e9):
            given = (wrong,) if isinstance(value, tuple) else wrong
            object.__setattr__(settings, item.name, given)
            with pytest.raises(ConfigError, match=item.name):
                settings.__post_init__()
        object.__setattr__(settings, item.name, value)
        checked += 1
    assert checked >= 2
    settings.__post_init__()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Config(run=5), "Config.run is 5; it must be a RunConfig"),
        (lambda: DataConfig(unit_dropout=0.5), "must be a UnitDropoutConfig or None"),
        (lambda: ModelConfig(latent_step=1e-6), "must be shorter: .* 16000000 latents"),
        (lambda: ModelConfig(window_length=1e7), r"window_length is 10000000.0; .* in \(0, 3600\]"),
        (lambda: ModelConfig(frequencies=np.ones(16)), "must be None or 16 positive numbers"),
        (lambda: FitConfig(backbone_rates=1e-3), "must be a mapping from paths to rates"),
        (lambda: FitConfig(backbone_rates={"": math.nan}), "must be of positive rates"),
        (lambda: NetworkSearch(network="lstm", hidden=(8,)), "network is 'lstm'; .*'mlp' or 'gru'"),
        (lambda: WienerSearch(reaches=((0.5,),)), r"reaches\[0\] has 1 numbers"),
        (lambda: with_steps(demo(), 0), "num_steps is 0; it must be at least 1, or None"),
        (lambda: simulate_session(0, num_units=2.5), "num_units is 2.5; it must be an integer"),
        (lambda: simulate_study(-1), "seed is -1; it must be at least 0"),
    ],
)
def test_settings_that_cannot_be(make, text):
    with pytest.raises(ConfigError, match=text):
        make()
