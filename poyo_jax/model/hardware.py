"""The hardware that a program is made for, which need not be that of this process."""

from typing import Any

import jax

# Platforms of a `jax.Device` that stand for a GPU.
_GPUS = ("gpu", "cuda", "rocm")


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
