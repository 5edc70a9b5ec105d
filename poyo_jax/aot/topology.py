"""Topologies: arrangements of accelerators that a program can be compiled for without them."""

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import jax

from poyo_jax.chips import CHIPS, GPUS_PER_SERVER, Chip
from poyo_jax.errors import ConfigError, MissingDependencyError, suggest

# What the TPU compiler reads from its environment: that it shall not look for a TPU, and that
# several processes may use it at the same time.
_TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_EXTRAS = {"tpu": "aot-tpu", "cuda": "aot-cuda"}
_PLUGINS = {"tpu": "libtpu", "cuda": "jax-cuda12-plugin"}


@dataclass(frozen=True)
class Topology:
    """So many chips of a kind, in an arrangement."""

    chip: Chip
    shape: str  # "4x4"; of GPUs their number

    @property
    def name(self) -> str:
        """The name, as `parse` reads it."""
        return f"{self.chip.name}:{self.shape}"

    def devices(self) -> list[Any]:
        """The devices, which programs can be compiled for but not run on.

        Call it before this process uses JAX: it then computes on the CPU alone. Raises
        MissingDependencyError when the compiler for these chips is not installed, or not in the
        version that belongs to this version of jax.
        """
        from jax.experimental import topologies

        check_plugin(self.chip.platform)
        jax.config.update("jax_platforms", "cpu")
        if self.chip.platform == "tpu":
            for name, value in _TPU_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            return topologies.get_topology_desc(platform="tpu", topology_name=self.name).devices
        count = int(self.shape)
        per_server = min(count, GPUS_PER_SERVER)
        return topologies.get_topology_desc(
            "",
            platform="cuda",
            topology=f"1x{count // per_server}x{per_server}",
            target_config=_target(self.chip),
        ).devices


def parse(text: str) -> Topology:
    """Read the name of a topology, such as v5e:16x16 or h200:8.

    Raises ConfigError for one that does not exist, with those that are near.
    """
    name, _, shape = text.strip().lower().partition(":")
    if name not in CHIPS:
        raise ConfigError(
            f"topology {text!r} names no chip that is known.{suggest(name, CHIPS)} Choose"
            f" {', '.join(CHIPS)}, followed by an arrangement, for instance v5e:4x4 or h200:8."
        )
    chip = CHIPS[name]
    if shape not in chip.shapes:
        known = [f"{name}:{each}" for each in chip.shapes]
        raise ConfigError(
            f"there is no topology {text!r}.{suggest(f'{name}:{shape}', known)} Choose"
            f" {', '.join(known)}."
        )
    return Topology(chip, shape)


def check_plugin(platform: str) -> None:
    """Raise MissingDependencyError unless the compiler for a platform fits the installed jax."""
    plugin, extra = _PLUGINS[platform], _EXTRAS[platform]
    install = f'pip install "poyo_jax[{extra}]"'
    try:
        installed = metadata.version(plugin)
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            f"compiling for {platform.upper()} needs {plugin}, which is not installed. Install it:"
            f" {install}."
        ) from None
    wanted = _wanted_version(plugin)
    if wanted is not None and not wanted.contains(installed, prereleases=True):
        raise MissingDependencyError(
            f"{plugin} {installed} does not belong to jax {jax.__version__}, which needs"
            f' {plugin}{wanted}. Install that one: pip install "{plugin}{wanted}".'
        )


def _wanted_version(plugin: str) -> Any:
    """Versions of a plug-in that the installed jax asks for; None if it does not tell."""
    from packaging.requirements import Requirement

    for line in metadata.requires("jax") or ():
        requirement = Requirement(line)
        if requirement.name == plugin:
            return requirement.specifier
    return None


def _target(chip: Chip) -> str:
    """Describe a GPU to the compiler, as a text of XLA's GpuTargetConfigProto."""
    major, minor = chip.capability.split(".")
    shared = {"8.0": (167936, 166912), "9.0": (233472, 232448)}[chip.capability]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared[0]}
  shared_memory_per_block_optin: {shared[1]}
  threads_per_core_limit: 2048
  core_count: {chip.multiprocessors}
  fpus_per_core: {128 if major == "9" else 64}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(chip.bandwidth)}
  l2_cache_size: {chip.cache}
  clock_rate_ghz: {chip.clock}
  device_memory_size: {int(chip.memory)}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "NVIDIA {chip.name.upper()}"
"""
