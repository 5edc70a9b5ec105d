"""What a compiled program costs a chip: bytes through its memory, operations, and collectives.

The program is carried out in mind, loops as often as they turn (traffic.py, arithmetic.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from poyo_jax.aot.arithmetic import flops_of, is_attention
from poyo_jax.aot.hlo import Computation, Instruction, Program
from poyo_jax.aot.traffic import is_free, traffic_of

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclass(frozen=True)
class Operation:
    """One operation of a program, and how often it is carried out."""

    instruction: Instruction
    times: int
    traffic: float  # bytes, each time
    padding: float  # bytes of them that hold no value
    flops: float  # each time

    @property
    def part(self) -> str:
        """Part of the training step that it belongs to, by the names in the source."""
        return part_of(self.instruction.scope)


@dataclass(frozen=True)
class Collective:
    """One exchange between chips, and how often it is carried out."""

    kind: str
    times: int
    size: float  # bytes of the whole array on one chip, each time
    group: int  # chips that take part
    hidden: float | None  # s of other work between its start and its end; None: the chip waits


@dataclass
class Cost:
    """What a program costs one chip."""

    operations: list[Operation] = field(default_factory=list)
    collectives: list[Collective] = field(default_factory=list)
    endless_loops: int = 0  # loops whose number of turns is not known; they count once

    @property
    def traffic(self) -> float:
        """Bytes between operations and memory."""
        return sum(each.times * each.traffic for each in self.operations)

    @property
    def padding(self) -> float:
        """Bytes of the traffic that are padding of tiles."""
        return sum(each.times * each.padding for each in self.operations)

    @property
    def flops(self) -> float:
        """Floating-point operations of products."""
        return sum(each.times * each.flops for each in self.operations)

    @property
    def count(self) -> int:
        """Operations that are carried out."""
        return sum(each.times for each in self.operations)

    @property
    def attention_kernels(self) -> dict[str, int]:
        """How often each kernel of flash attention is carried out."""
        counts: dict[str, int] = {}
        for each in self.operations:
            if is_attention(each.instruction):
                name = _kernel_name(each.instruction)
                counts[name] = counts.get(name, 0) + each.times
        return counts


def cost_of(program: Program, seconds: Callable[[float, float], float]) -> Cost:
    """Cost of a program.

    `seconds(bytes, flops)` is the time that an operation takes at least; by it is measured how far
    other work covers a collective.
    """
    cost = Cost()
    _Walk(program, cost, seconds).computation(program.entry, 1)
    return cost


class _Walk:
    """Carry out a program in mind, and write down what it costs."""

    def __init__(self, program: Program, cost: Cost, seconds: Callable[[float, float], float]):
        self._program, self._cost, self._seconds = program, cost, seconds

    def computation(self, computation: Computation, times: int) -> float:
        """Add the cost of a computation that is carried out so many times; the s of one time."""
        passed = 0.0
        started: dict[str, float] = {}
        for each in computation:
            if _collective_kind(each.op):
                started[each.name] = passed
            elif each.op.endswith("-done") and each.operands[0] in started:
                begun = computation.instructions[each.operands[0]]
                hidden = passed - started.pop(begun.name)
                self._collective(begun, computation, times, hidden)
            else:
                passed += self._instruction(each, computation, times)
        for name in started:  # without an end of its own
            self._collective(computation.instructions[name], computation, times, None)
        return passed

    def _instruction(self, each: Instruction, inside: Computation, times: int) -> float:
        if each.op == "while":
            turns = _turns(each, self._program)
            if turns is None:
                self._cost.endless_loops += 1
            turns = turns or 1
            body = self._program.computations[each.called("body") or ""]
            return turns * self.computation(body, times * turns)
        if each.op in ("call", "async-start") and (name := _callee(each)):
            return self.computation(self._program.computations[name], times)
        if each.op == "conditional":
            return self._dearest_branch(each, times)
        if is_free(each):
            return 0.0
        arrays = list(traffic_of(self._program, each, inside))
        traffic = sum(array.bytes for array in arrays)
        padding = traffic - sum(array.logical_bytes for array in arrays)
        flops = flops_of(self._program, each, inside)
        if each.op == "fusion":
            self._collectives_of_fusion(each, times)
        self._cost.operations.append(Operation(each, times, traffic, padding, flops))
        return self._seconds(traffic, flops)

    def _collectives_of_fusion(self, fusion: Instruction, times: int) -> None:
        """Add the collectives that TPUs fuse with other work; what covers them is not told."""
        body = self._program.computations[fusion.called("calls") or ""]
        for each in body:
            if _collective_kind(each.op):
                self._collective(each, body, times, None)

    def _dearest_branch(self, each: Instruction, times: int) -> float:
        """Add the cost of the branch that takes longest."""
        names = re.findall(r"%([\w.\-]+)", _branches(each.attributes))
        walks = []
        for name in names:
            cost = Cost()
            walk = _Walk(self._program, cost, self._seconds)
            walks.append((walk.computation(self._program.computations[name], times), cost))
        if not walks:
            return 0.0
        passed, cost = max(walks, key=lambda pair: pair[0])
        self._cost.operations += cost.operations
        self._cost.collectives += cost.collectives
        self._cost.endless_loops += cost.endless_loops
        return passed

    def _collective(
        self, each: Instruction, inside: Computation, times: int, hidden: float | None
    ) -> None:
        kind = _collective_kind(each.op)
        given = [array for name in each.operands for array in inside.arrays(name)]
        sizes = sum(array.logical_bytes for array in given)
        group = _group(each.attributes)
        if kind == "all-gather":
            sizes *= group
        self._cost.collectives.append(Collective(kind or "", times, sizes, group, hidden))


def _turns(loop: Instruction, program: Program) -> int | None:
    """How often a loop turns; None if the program does not tell."""
    told = re.search(r'"known_trip_count":\s*\{"n":\s*"(\d+)"', loop.attributes)
    if told:
        return int(told[1])
    condition = program.computations[loop.called("condition") or ""]
    limits = []
    for each in condition:
        if each.op == "constant" and each.arrays and each.arrays[0].dtype == "s32":
            limits.append(int(each.given))
    return limits[0] if len(limits) == 1 else None


def _callee(instruction: Instruction) -> str | None:
    return instruction.called("to_apply") or instruction.called("calls")


def _branches(attributes: str) -> str:
    """The names of the branches of a conditional."""
    found = re.search(r"branch_computations=\{([^}]*)\}", attributes)
    if found:
        return found[1]
    return " ".join(re.findall(r"(?:true|false)_computation=(%[\w.\-]+)", attributes))


def _collective_kind(op: str) -> str | None:
    """Kind of a collective that an operation is or starts; None for others."""
    kind = op.removesuffix("-start")
    return kind if kind in COLLECTIVES else None


def _group(attributes: str) -> int:
    """Number of chips that take part in a collective; 1 if it is not told."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    if listed:
        return listed[1].count(",") + 1
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes)
    return int(counted[2]) if counted else 1


def _kernel_name(instruction: Instruction) -> str:
    """Name of a kernel without the number that the compiler gives it."""
    if instruction.target.startswith("__cudnn"):
        return instruction.target.removeprefix("__cudnn$")
    return re.sub(r"[.\d]+$", "", instruction.name)


def part_of(scope: str) -> str:
    """Part of the training step that a path of names in the source belongs to."""
    for name in ("encoder", "processor", "decoder", "head"):
        if re.search(rf"\b{name}\b", scope):
            return f"{name}, backward" if "transpose(" in scope else name
    return "rest"
