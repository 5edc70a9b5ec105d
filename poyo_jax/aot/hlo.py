"""Read the text of a compiled program (XLA's HLO), with the layouts of its arrays.

Only what a cost model needs is read: instructions, the shapes of their results, their operands, and
the text of their attributes.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4,
    "s64": 8, "u64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8,
    "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_COMMENT = re.compile(r"/\*.*?\*/")
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_RESULT = re.compile(r"\s+(ROOT )?%([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Array:
    """Shape, type and layout of an array."""

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()  # axes from the minor-most on; empty if not told
    tile: tuple[int, ...] = ()  # of the minor-most axes, the last one the minor-most
    space: int = 0  # of memory: 0 is the chip's large one

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.dims)

    @property
    def logical_bytes(self) -> float:
        """Bytes of the values."""
        return self.size * BYTES[self.dtype]

    @cached_property
    def bytes(self) -> float:
        """Bytes with the padding of tiles."""
        if not self.tile or len(self.order) != len(self.dims):
            return self.logical_bytes
        sizes = [self.dims[axis] for axis in self.order]
        for place, tile in enumerate(reversed(self.tile)):
            if place < len(sizes):
                sizes[place] = -(-sizes[place] // tile) * tile
        return math.prod(sizes) * BYTES[self.dtype]

    @property
    def in_memory(self) -> bool:
        """Tell if the array lies in the chip's large memory, not in a small fast one."""
        return self.space == 0


@dataclass(frozen=True)
class Instruction:
    """One instruction of a computation."""

    name: str
    op: str
    arrays: tuple[Array, ...]  # of the result; several for a tuple
    operands: tuple[str, ...]
    given: str  # text between the parentheses
    attributes: str  # text after them
    is_root: bool

    def called(self, attribute: str) -> str | None:
        """Name of the computation that an attribute names."""
        found = re.search(rf"\b{attribute}=%([\w.\-]+)", self.attributes)
        return found[1] if found else None

    @cached_property
    def target(self) -> str:
        """What a custom call calls; empty for other instructions."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @cached_property
    def scope(self) -> str:
        """Path of the source's names, as jax writes it; empty if not told."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""


@dataclass
class Computation:
    """Instructions by name, in the order in which they are carried out."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())

    def arrays(self, name: str) -> tuple[Array, ...]:
        """Arrays of the result of an instruction; nothing for a name that is not here."""
        found = self.instructions.get(name)
        return found.arrays if found else ()

    @cached_property
    def root(self) -> Instruction:
        """The instruction whose result is that of the computation."""
        return next(each for each in self if each.is_root)

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Parameters by their number."""
        return {int(each.given): each for each in self if each.op == "parameter"}

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Instructions that use the result of each instruction."""
        users: dict[str, list[Instruction]] = {}
        for each in self:
            for name in dict.fromkeys(each.operands):
                users.setdefault(name, []).append(each)
        return users


@dataclass
class Program:
    """Computations by name, and the one that is run."""

    computations: dict[str, Computation]
    entry: Computation


def parse(text: str) -> Program:
    """Read a compiled program, as `jax.stages.Compiled.as_text` writes it."""
    computations: dict[str, Computation] = {}
    entry = current = None
    for line in _whole_lines(text):
        if head := _HEAD.match(line):
            current = Computation(head[2])
            computations[head[2]] = current
            entry = current if head[1] else entry
        elif current is not None and (result := _RESULT.match(line)):
            instruction = _instruction(line[result.end() :], result[2], bool(result[1]))
            current.instructions[instruction.name] = instruction
    if entry is None:
        raise ValueError("the text holds no ENTRY computation, so it is no program of XLA")
    return Program(computations, entry)


def _whole_lines(text: str) -> list[str]:
    """Lines of the text; one that goes on, since an attribute holds line breaks, is joined."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line or line == "}" or _RESULT.match(line) or _HEAD.match(line):
            lines.append(line)
        elif lines:
            lines[-1] += line
    return lines


def _instruction(text: str, name: str, is_root: bool) -> Instruction:
    """Read what follows `%name = `: result, operation, operands, attributes."""
    end = _end(text, 0) if text.startswith("(") else text.index(" ")
    result, rest = text[:end], text[end:].lstrip()
    begin = rest.index("(")
    close = _end(rest, begin)
    given = _COMMENT.sub("", rest[begin + 1 : close - 1])
    return Instruction(
        name=name,
        op=rest[:begin],
        arrays=arrays_of(result),
        operands=tuple(_NAME.findall(given)),
        given=given,
        attributes=rest[close:],
        is_root=is_root,
    )


def _end(text: str, begin: int) -> int:
    """Place behind the bracket that closes the one at `begin`."""
    depth = 0
    for place in range(begin, len(text)):
        if text[place] in _OPEN:
            depth += 1
        elif text[place] in _CLOSE:
            depth -= 1
            if not depth:
                return place + 1
    raise ValueError(f"a bracket is not closed in {text[:80]!r}")


def arrays_of(text: str) -> tuple[Array, ...]:
    """Read all arrays of a type, such as (f32[8,4]{1,0:T(8,128)S(1)}, s32[])."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        if dtype not in BYTES:
            continue
        order, _, memory = layout.partition(":")
        tile = re.search(r"T\(([\d,]+)\)", memory)
        space = re.search(r"S\((\d+)\)", memory)
        array = Array(
            dtype=dtype,
            dims=_numbers(dims),
            order=_numbers(order),
            tile=_numbers(tile[1]) if tile else (),
            space=int(space[1]) if space else 0,
        )
        found.append(array)
    return tuple(found)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",") if each.strip())
