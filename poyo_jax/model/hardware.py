"""The hardware that a program is made for, and the settings that are chosen by it.

It need not be the hardware of this process: programs can be compiled for accelerators that are not
there.

`CHOICES` is the table of what is chosen by platform, unless the configuration says it. Its reasons:

- The processor passes its activations through memory again and again. On CPUs and TPUs a few
  windows at a time stay in fast memory. docs/scaling.md, "Micro-batches", has the bytes that a
  compiled step moves with more and with fewer windows.
- On GPUs the cache is small against the activations of one window, so all windows pass at once, as
  far as the memory allows: fewer and longer operations.
- Of the encoder's token rows as many pass at the same time as stay in fast memory.
- Flash attention is that of the platform.
"""

import math
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from poyo_jax.chips import memory_of
from poyo_jax.config import BackEnd, ModelConfig, RunConfig

# Platforms of a `jax.Device` that stand for a GPU.
_GPUS = ("gpu", "cuda", "rocm")
UNKNOWN_MEMORY = 16e9  # bytes of a chip that is not in the table; few have less
FEEDFORWARD = 12  # values in a feed-forward block, for each of its inputs
# Of a chip's memory, for the activations that the backward pass of a micro-batch needs.
SHARE = 1 / 4


class Hardware(NamedTuple):
    """The devices that a program is made for; all are alike."""

    platform: str  # `platform_of`
    memory: float = UNKNOWN_MEMORY  # bytes of a device


class Choice(NamedTuple):
    """What is chosen on a platform."""

    fast_bytes: float  # activations of a layer that shall pass at the same time, at most
    least: int  # windows of a micro-batch
    most: float
    group_rows: int = 8  # token rows that the encoder attends at the same time, at most
    flash: BackEnd | None = None  # flash attention


CHOICES = {
    "cpu": Choice(fast_bytes=5e6, least=2, most=8),
    "tpu": Choice(fast_bytes=50e6, least=1, most=math.inf, group_rows=12, flash="splash"),
    "cuda": Choice(fast_bytes=math.inf, least=1, most=math.inf, flash="cudnn"),
}
OTHERS = Choice(fast_bytes=math.inf, least=1, most=math.inf)


def platform_of(device: Any) -> str:
    """Name the platform of a device (`jax.Device`): "cuda", "tpu", "cpu" or another name.

    "cuda" stands for a GPU on which cuDNN has flash attention. The device may be one that is not
    there, of a topology that programs are compiled for.
    """
    if device.platform not in _GPUS:
        return device.platform
    capability = str(getattr(device, "compute_capability", ""))  # "9.0"; of AMD "gfx90a"
    major = capability.split(".")[0]
    if not major.isdigit():
        return device.platform
    if int(major) >= 8:
        return "cuda"
    return f"a GPU of compute capability {capability}"


def own_platform() -> str:
    """Name the platform of this process's devices."""
    return platform_of(jax.local_devices()[0])


def hardware_of(mesh: Mesh) -> Hardware:
    """The hardware of a mesh. It is the same in every process, since it asks no device."""
    device = mesh.devices.flat[0]
    return Hardware(platform_of(device), memory_of(device.device_kind) or UNKNOWN_MEMORY)


def choose_group_rows(rows_per_group: int | None, platform: str | None) -> int:
    """Token rows that are attended at the same time: `rows_per_group`, or by the platform if None.

    `platform` None is that of this process.
    """
    if rows_per_group is not None:
        return rows_per_group
    return CHOICES.get(platform or own_platform(), OTHERS).group_rows


def choose_microbatch(model: ModelConfig, run: RunConfig, hardware: Hardware) -> int | None:
    """Windows that pass the processor at the same time on a device; None stands for all.

    It is `run.microbatch_windows`, or if that is None a power of 2 by the table of choices.
    """
    if run.microbatch_windows is not None:
        return run.microbatch_windows
    choice = CHOICES.get(hardware.platform, OTHERS)
    has_scores = choice.flash is None or model.attention_dropout > 0
    of_layer = _layer_bytes(model, run, has_scores)
    fitting = choice.fast_bytes / of_layer
    if hardware.platform != "cpu":
        fitting = min(fitting, SHARE * hardware.memory / (model.depth * of_layer))
    windows = min(max(fitting, choice.least), choice.most)
    return 2 ** math.floor(math.log2(windows))


def _layer_bytes(model: ModelConfig, run: RunConfig, has_scores: bool) -> float:
    """Bytes of the activations of a processor layer for one window, of all members.

    Scores are float32.
    """
    latents = model.num_latent_steps * model.num_latents
    channels = model.self_heads * model.head_dim
    values = latents * (model.dim + 4 * channels + FEEDFORWARD * model.dim)
    size = 2 if run.compute_dtype == "bfloat16" else 4
    scores = 4 * model.self_heads * latents**2
    return model.members * (size * values + has_scores * scores)
