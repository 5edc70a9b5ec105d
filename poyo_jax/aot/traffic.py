"""Bytes that pass between the operations of a compiled program and the chip's memory.

An array counts when it passes between an operation and the chip's large memory, with the padding of
its tiles; what stays in fast memory does not count. Of arrays that an operation slices, or changes
in place, only that part counts. These are bounds: caches may save traffic, and kernels may read an
array more than once.
"""

from collections.abc import Iterator

from poyo_jax.aot.hlo import Array, Computation, Instruction, Program

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
