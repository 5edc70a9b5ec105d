"""Rates and sizes of accelerators, as their vendors state them.

Sources: cloud.google.com/tpu/docs (pages v5e, v5p, v6e), and NVIDIA's data sheets of H100 SXM, H200
SXM and A100 80GB SXM. Nothing of it is measured.
"""

from dataclasses import dataclass

SQUARES = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16",
    "16x16x16",
)  # fmt: skip
SERVERS = ("1", "2", "4", "8", "16", "32", "64", "128", "256", "512", "1024")
GPUS_PER_SERVER = 8
POD = 1 << 13  # more chips than any topology here has
DATA_CENTRE, INFINIBAND = 3e9, 50e9  # bytes/s of a chip


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator. Rates are per second, in one direction where there are two."""

    name: str
    platform: str  # "tpu" or "cuda"
    kinds: tuple[str, ...]  # what jax calls it (`jax.Device.device_kind`)
    flops: float  # of bfloat16 products
    bandwidth: float  # bytes through its memory
    memory: float  # bytes that programs can use
    link: float  # bytes to its neighbours, over all links
    server: int  # chips that these links join
    beyond: float  # bytes to chips of other servers
    operation: float  # s that one operation takes at least; an assumption, nobody measured it
    shapes: tuple[str, ...]  # arrangements that exist
    multiprocessors: int = 0  # GPUs only, as the following
    capability: str = ""
    clock: float = 0.0  # GHz
    cache: int = 0  # bytes of L2


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v5e",
            platform="tpu",
            kinds=("TPU v5 lite",),
            flops=197e12,
            bandwidth=0.82e12,
            memory=16e9,
            link=200e9,
            server=POD,
            beyond=DATA_CENTRE,
            operation=1e-6,
            shapes=SQUARES,
        ),
        Chip(
            name="v5p",
            platform="tpu",
            kinds=("TPU v5", "TPU v5p"),
            flops=459e12,
            bandwidth=2.765e12,
            memory=95e9,
            link=600e9,
            server=POD,
            beyond=DATA_CENTRE,
            operation=1e-6,
            shapes=CUBES,
        ),
        Chip(
            name="v6e",
            platform="tpu",
            kinds=("TPU v6 lite",),
            flops=918e12,
            bandwidth=1.64e12,
            memory=32e9,
            link=448e9,
            server=POD,
            beyond=DATA_CENTRE,
            operation=1e-6,
            shapes=SQUARES,
        ),
        Chip(
            name="a100",
            platform="cuda",
            kinds=("NVIDIA A100", "NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
            flops=312e12,
            bandwidth=2.039e12,
            memory=80e9,
            link=300e9,
            server=GPUS_PER_SERVER,
            beyond=INFINIBAND,
            operation=3e-6,
            shapes=SERVERS,
            multiprocessors=108,
            capability="8.0",
            clock=1.41,
            cache=40 << 20,
        ),
        Chip(
            name="h100",
            platform="cuda",
            kinds=("NVIDIA H100", "NVIDIA H100 80GB HBM3"),
            flops=989e12,
            bandwidth=3.35e12,
            memory=80e9,
            link=450e9,
            server=GPUS_PER_SERVER,
            beyond=INFINIBAND,
            operation=3e-6,
            shapes=SERVERS,
            multiprocessors=132,
            capability="9.0",
            clock=1.98,
            cache=50 << 20,
        ),
        Chip(
            name="h200",
            platform="cuda",
            kinds=("NVIDIA H200",),
            flops=989e12,
            bandwidth=4.8e12,
            memory=141e9,
            link=450e9,
            server=GPUS_PER_SERVER,
            beyond=INFINIBAND,
            operation=3e-6,
            shapes=SERVERS,
            multiprocessors=132,
            capability="9.0",
            clock=1.98,
            cache=50 << 20,
        ),
    )
}


def memory_of(kind: str) -> float | None:
    """Bytes of the memory of a chip that jax calls so; None for one that is not in `CHIPS`."""
    return next((chip.memory for chip in CHIPS.values() if kind in chip.kinds), None)
