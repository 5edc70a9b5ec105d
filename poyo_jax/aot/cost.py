"""What a compiled program costs a chip: bytes through its memory, operations, and collectives.

The program is carried out in mind, loops as often as they turn. An array counts when it passes
between an operation and the chip's large memory, with the padding of its tiles; what stays in fast
memory does not count. Of arrays that an operation slices, or changes in place, only that part
counts. These are bounds: caches may save traffic, and kernels may read an array more than once.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from poyo_jax.aot.arithmetic import flops_of, is_attention
from poyo_jax.aot.hlo import Array, Computation, Instruction, Program

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# They move nothing: names for what is there, or ends of what has been counted at its start.
_FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "iota",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "optimization-barrier",
    "add-dependency",
    "async-done",
    "async-update",
}
_FREE_CALLS = {"AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound"}
_SLICING = {"dynamic-slice", "slice", "gather"}


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
        self._cost.operations.append(Operation(each, times, traffic, padding, flops))
        return self._seconds(traffic, flops)

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


def is_free(instruction: Instruction) -> bool:
    """Tell if an instruction is no work of its own."""
    op = instruction.op
    return op in _FREE or op.endswith("-done") or instruction.target in _FREE_CALLS


def traffic_of(program: Program, instruction: Instruction, inside: Computation) -> Iterator[Array]:
    """Arrays that pass between an instruction and memory; in part, where only part passes."""
    op, operands = instruction.op, instruction.operands
    if op in ("copy-start", "slice-start", "dynamic-slice-start"):
        yield from _in_memory(_moved_by_start(instruction, inside))
    elif op in _SLICING:
        yield from _in_memory(instruction.arrays * 2)
    elif op in ("dynamic-update-slice", "scatter"):
        yield from _updated(instruction, inside)
    elif op == "fusion":
        body = program.computations[instruction.called("calls") or ""]
        yield from _written(program, instruction, body)
        for number, name in enumerate(operands):
            whole = list(_in_memory(inside.arrays(name)))
            part = _read(program, body, number)
            if part is not None and _bytes(part) < _bytes(whole):
                whole = part
            yield from whole
    else:
        yield from _in_memory(instruction.arrays)
        for name in operands:
            yield from _in_memory(inside.arrays(name))


def _in_memory(arrays: tuple[Array, ...]) -> Iterator[Array]:
    return (array for array in arrays if array.in_memory)


def _bytes(arrays: list[Array]) -> float:
    return sum(array.bytes for array in arrays)


def _moved_by_start(instruction: Instruction, inside: Computation) -> tuple[Array, ...]:
    """Source and destination of a copy that goes on while others work.

    The result of a start is a tuple that holds both.
    """
    if instruction.op == "copy-start":
        return instruction.arrays[:2]
    num_given = len(inside.arrays(instruction.operands[0]))
    moved = instruction.arrays[num_given : num_given + 1]
    given = inside.arrays(instruction.operands[0])[:1]
    read = tuple(array for array in moved if given and given[0].in_memory)
    from_memory = tuple(Array(each.dtype, each.dims, each.order, each.tile) for each in read)
    return (*moved, *from_memory)


def _updated(instruction: Instruction, inside: Computation) -> Iterator[Array]:
    """What is read and written of an array that is changed in place: its new part, twice."""
    target = instruction.arrays
    update = -1 if instruction.op == "scatter" else 1
    new = inside.arrays(instruction.operands[update])
    if target and target[0].in_memory:
        yield from new * 2


def _written(program: Program, instruction: Instruction, body: Computation) -> Iterator[Array]:
    """What a fusion writes to memory."""
    root = body.root
    is_tuple = root.op == "tuple"
    names = root.operands if is_tuple else (root.name,)
    for name, array in zip(names, instruction.arrays, strict=False):
        if not array.in_memory:
            continue
        part = _changed_part(program, body, body.instructions[name])
        yield from part if part else (array,)


def _changed_part(
    program: Program, body: Computation, instruction: Instruction
) -> tuple[Array, ...]:
    """The new part of an array that a fusion changes in place; nothing if it is all new."""
    while instruction.op == "bitcast" and instruction.operands[0] in body.instructions:
        instruction = body.instructions[instruction.operands[0]]
    if instruction.op == "fusion":
        inner = program.computations[instruction.called("calls") or ""]
        if inner.root.op == "tuple":
            return ()
        return _changed_part(program, inner, inner.root)
    if instruction.op == "dynamic-update-slice":
        return body.arrays(instruction.operands[1])
    if instruction.op == "scatter":
        return body.arrays(instruction.operands[-1])
    return ()


def _read(program: Program, body: Computation, number: int) -> list[Array] | None:
    """The parts of a fusion's operand that are read; None for all of it."""
    parameter = body.parameters.get(number)
    if parameter is None:
        return None
    parts: list[Array] = []
    names = [parameter.name]
    while names:
        name = names.pop()
        for user in body.users.get(name, ()):
            if user.op == "bitcast":
                names.append(user.name)
            elif user.op in _SLICING and user.operands[0] == name:
                parts += [Array(x.dtype, x.dims, x.order, x.tile) for x in user.arrays]
            elif user.op == "fusion":
                inner = _read_by_inner(program, user, name)
                if inner is None:
                    return None
                parts += inner
            elif user.op == "scatter" and user.operands[0] == name:
                parts += body.arrays(user.operands[-1])
            elif not (user.op == "dynamic-update-slice" and user.operands[0] == name):
                return None
    return parts


def _read_by_inner(program: Program, fusion: Instruction, name: str) -> list[Array] | None:
    """The parts of an operand of a fusion inside a fusion that are read; None for all of it."""
    body = program.computations[fusion.called("calls") or ""]
    parts: list[Array] = []
    for number, operand in enumerate(fusion.operands):
        if operand == name:
            inner = _read(program, body, number)
            if inner is None:
                return None
            parts += inner
    return parts


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
