"""Count the floating-point operations of the products in a compiled program."""

import math
import re

import numpy as np

from poyo_jax.aot.hlo import Array, Computation, Instruction, Program

# Products of two matrices in a kernel of attention, forward and in all of its gradients. Of the two
# backward kernels of the TPU each computes the scores again, unless they are one.
_FORWARD, _BACKWARD = 2, 5
_SPLASH = {"fwd": 2, "dkv": 4, "dq": 3}
_FUSED = re.compile(r'use_fused_bwd_kernel\\?":\s*true')
_MOST_PLACES = 4_000_000  # of windows, that are counted one by one


def flops_of(program: Program, instruction: Instruction, inside: Computation) -> float:
    """Operations of an instruction and of all it calls, loops excepted."""
    if instruction.op == "dot":
        return _dot(instruction, inside)
    if instruction.op == "convolution":
        return _convolution(instruction, inside)
    if instruction.op == "custom-call":
        return _kernel(instruction, inside)
    called = instruction.called("calls")
    if called is None:
        return 0.0
    body = program.computations[called]
    return sum(flops_of(program, each, body) for each in body)


def is_attention(instruction: Instruction) -> bool:
    """Tell if an instruction is a kernel of flash attention."""
    name = instruction.name
    return instruction.op == "custom-call" and (
        "fmha" in instruction.target or name.startswith("splash_mha")
    )


def _dot(instruction: Instruction, inside: Computation) -> float:
    left = inside.arrays(instruction.operands[0])[0]
    contracted = _listed(instruction.attributes, "lhs_contracting_dims")
    return 2.0 * instruction.arrays[0].size * math.prod(left.dims[axis] for axis in contracted)


def _convolution(instruction: Instruction, inside: Computation) -> float:
    """TPUs express products as convolutions, whose windows may reach far into padding."""
    left, right = (inside.arrays(name)[0] for name in instruction.operands[:2])
    out = instruction.arrays[0]
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return 0.0
    of_left, of_right, of_out = labels.groups()
    flops = 2.0 * out.size * right.dims[of_right.index("i")]
    window = re.search(r"window=\{([^}]*)\}", instruction.attributes)
    for number in range(len(of_out) - 2):
        where = (of_left.index(str(number)), of_out.index(str(number)))
        sizes = left.dims[where[0]], out.dims[where[1]]
        flops *= _places(window[1] if window else "", number, *sizes) / sizes[1]
    return flops


def _places(window: str, axis: int, given: int, out: int) -> float:
    """Pairs of a place of the result and one of the window that meet a value, not padding."""
    size = int(_of_axis(window, "size", axis, "1"))
    stride = int(_of_axis(window, "stride", axis, "1"))
    low = int(_of_axis(window, "pad", axis, "0_0").split("_")[0])
    apart = int(_of_axis(window, "lhs_dilate", axis, "1"))
    step = int(_of_axis(window, "rhs_dilate", axis, "1"))
    if out * size > _MOST_PLACES:
        return float(out * size)
    place = np.arange(out)[:, None] * stride + np.arange(size) * step - low
    meets = (place >= 0) & (place <= (given - 1) * apart) & (place % apart == 0)
    return float(meets.sum())


def _of_axis(window: str, name: str, axis: int, default: str) -> str:
    found = re.search(rf"\b{name}=([\d_x\-]+)", window)
    return found[1].split("x")[axis] if found else default


def _kernel(instruction: Instruction, inside: Computation) -> float:
    """Operations of a kernel: those that it tells, or those of attention or of a product."""
    told = re.search(r'"flops":\s*"?(\d+)', instruction.attributes)
    if told and int(told[1]):
        return float(told[1])
    given = [array for name in instruction.operands for array in inside.arrays(name)]
    if is_attention(instruction):
        heads = [array for array in given if len(array.dims) == 4]
        return _attention(instruction, heads) if len(heads) > 1 else 0.0
    if "matmul" in instruction.target or "gemm" in instruction.target:
        contracted = re.search(
            r'"lhs_contracting_dimensions":\["?([\d",]*)\]', instruction.attributes
        )
        axes = re.findall(r"\d+", contracted[1]) if contracted else []
        common = math.prod(given[0].dims[int(axis)] for axis in axes)
        return 2.0 * instruction.arrays[0].size * common
    return 0.0


def _attention(instruction: Instruction, heads: list[Array]) -> float:
    """Products of queries and keys, and of weights and values."""
    channels = heads[0].dims[3]
    if instruction.target.startswith("__cudnn"):
        count = _BACKWARD if "Backward" in instruction.target else _FORWARD
        scores = re.search(r'"dimensions":\s*\[([\d", ]*)\]', instruction.attributes)
        sizes = re.findall(r"\d+", scores[1]) if scores else ["0"]
        return 2.0 * count * channels * math.prod(int(size) for size in sizes)
    count = next(count for name, count in _SPLASH.items() if name in instruction.name)
    if count == _SPLASH["dkv"] and _FUSED.search(instruction.attributes):
        count = _BACKWARD
    batch, num_heads, queries, _ = heads[0].dims
    return 2.0 * count * batch * num_heads * queries * heads[1].dims[2] * channels


def _listed(attributes: str, name: str) -> list[int]:
    found = re.search(rf"\b{name}=\{{([\d,]*)\}}", attributes)
    return [int(each) for each in found[1].split(",") if each] if found else []
