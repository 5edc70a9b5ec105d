"""Settings that are chosen by the hardware."""

from dataclasses import replace

import pytest

from poyo_jax.chips import CHIPS
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.model.hardware import (
    Hardware,
    choose_group_rows,
    choose_microbatch,
    hardware_of,
)
from poyo_jax.presets import PRESETS

CPU, TPU = Hardware("cpu"), Hardware("tpu", CHIPS["v5e"].memory)
GPU, SMALL_GPU = Hardware("cuda", CHIPS["h200"].memory), Hardware("cuda", 8e9)
FAST = PRESETS["poyo_1_fast"]()


def chosen(preset: str, hardware: Hardware) -> int | None:
    config = PRESETS[preset]()
    return choose_microbatch(config.model, config.run, hardware)


@pytest.mark.parametrize(
    ("preset", "hardware", "windows"),
    [
        ("poyo_single", CPU, 2),
        ("poyo_1", CPU, 2),
        ("poyo_small", CPU, 8),
        ("demo", CPU, 8),
        ("poyo_1_fast", TPU, 16),
        ("poyo_1", TPU, 8),  # float32, and scores of attention
        ("poyo_1_fast", GPU, 512),  # more than a GPU gets of a batch
        ("poyo_1_fast", SMALL_GPU, 32),
    ],
)
def test_windows_that_pass_at_the_same_time(preset, hardware, windows):
    assert chosen(preset, hardware) == windows


def test_less_memory_than_a_window_needs_takes_one_window():
    assert chosen("poyo_1_fast", Hardware("cuda", 1e6)) == 1


def test_an_unknown_platform_is_bounded_by_memory_alone():
    assert chosen("poyo_1_fast", Hardware("rocm", GPU.memory)) <= chosen("poyo_1_fast", GPU)


def test_a_number_that_is_set_is_taken():
    run = replace(FAST.run, microbatch_windows=3)
    assert choose_microbatch(FAST.model, run, TPU) == 3


def test_the_hardware_of_a_mesh():
    assert hardware_of(make_mesh()) == Hardware("cpu")


def test_token_rows_of_a_group_are_those_of_the_platform_or_a_number_that_is_set():
    assert choose_group_rows(None, "cpu") == choose_group_rows(None, None) == 8
    assert choose_group_rows(None, "tpu") == 12
    assert choose_group_rows(5, "tpu") == 5
