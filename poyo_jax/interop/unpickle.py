"""Read pickles of data without running what they ask for, in time and memory that they bound.

The machine of Python's pickle module calls what a file names, hashes and compares keys of any
depth, and copies as often as a file asks. This one knows the opcodes of protocols 2 to 5 that data
need, takes plain keys only, and calls only the functions of its caller, with few arguments.
"""

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

LONGEST_NAME = 200  # characters of a module and of a name in it
MOST_ARGUMENTS = 16  # of a call
MOST_MARKS = 1000  # lists, tuples and mappings that are open at the same time
DEEPEST_TUPLE = 16  # tuples in tuples
LONGEST_KEY = 4096  # characters
KEY_BITS = 60  # larger numbers can be made to have equal hashes, which makes a mapping slow


class Refused(Exception):
    """A pickle asks for what no data need; the text is the end of a sentence about its file."""


class Idle:
    """Takes the place of an object that is not needed."""


IDLE = Idle()

# Opcodes that push the argument which pickletools reads, or the same value always.
_PUSH_ARGUMENT = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_PUSH_ARGUMENT |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}
_PUSH_ARGUMENT |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_PUSH_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TO_MARK = {"TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET", "POP_MARK"}


class Unpickler:
    """A machine that makes the value of a pickle.

    Args:
        find_global: what stands for a module's function or class: a function that is called with
            the arguments of a call, any value that is not called, or IDLE.
        load_persistent: makes the value of a persistent id.
    """

    def __init__(
        self, find_global: Callable[[str, str], Any], load_persistent: Callable[[Any], Any]
    ):
        self._find_global, self._load_persistent = find_global, load_persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks below the marks
        self._memo: dict[int, Any] = {}
        self._deep: dict[int, tuple[tuple, int]] = {}  # tuples that hold tuples, by id; their depth

    def load(self, content: bytes) -> Any:
        """The value of a pickle. Raises Refused, or any other exception for a damaged one."""
        if not content.endswith(pickle.STOP):
            raise EOFError("the pickle ends before its last instruction")
        for opcode, given, _ in pickletools.genops(content):
            name, argument = opcode.name, cast(Any, given)
            if name in _PUSH_ARGUMENT:
                self._stack.append(argument)
            elif name in _PUSH_CONSTANT:
                self._stack.append(_PUSH_CONSTANT[name])
            elif name in _TUPLES:
                self._tuple_of_last(_TUPLES[name])
            elif name in _TO_MARK:
                self._to_mark(name)
            elif name in ("BINGET", "LONG_BINGET"):
                self._stack.append(self._memo[argument])
            elif name in ("BINPUT", "LONG_BINPUT"):
                self._memo[argument] = self._stack[-1]
            else:
                self._other(name, argument)
        return self._stack.pop()

    def _other(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "MARK":
            if len(self._below) > MOST_MARKS:
                raise Refused(f"opens more than {MOST_MARKS} lists in lists, as no model does")
            self._below.append(stack)
            self._stack = []
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_SET":
            stack.append(IDLE)
        elif name == "APPEND":
            _extend(stack[-2], [stack.pop()])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set_items(stack[-1], [key, value])
        elif name == "GLOBAL":
            module, _, names = argument.partition(" ")
            stack.append(self._global(module, names))
        elif name == "STACK_GLOBAL":
            names, module = stack.pop(), stack.pop()
            stack.append(self._global(module, names))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif name == "NEWOBJ_EX":
            del stack[-3:]
            stack.append(IDLE)
        elif name == "BUILD":
            state = stack.pop()
            _set_state(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(self._load_persistent(stack.pop()))
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise Refused(f"uses the pickle instruction {name}, which torch.save does not write")

    def _to_mark(self, name: str) -> None:
        """Carry out an opcode that takes everything down to the last mark."""
        items, self._stack = self._stack, self._below.pop()
        stack = self._stack
        if name == "TUPLE":
            stack.append(self._tuple(items))
        elif name == "LIST":
            stack.append(items)
        elif name == "DICT":
            stack.append({})
            _set_items(stack[-1], items)
        elif name == "APPENDS":
            _extend(stack[-1], items)
        elif name == "SETITEMS":
            _set_items(stack[-1], items)
        elif name == "FROZENSET":
            stack.append(IDLE)

    def _tuple_of_last(self, count: int) -> None:
        items = self._stack[-count:]
        if len(items) < count:
            raise ValueError("a tuple of more values than there are")
        del self._stack[-count:]
        self._stack.append(self._tuple(items))

    def _tuple(self, items: list[Any]) -> tuple:
        made = tuple(items)
        depths = [self._depth(item) for item in items if type(item) is tuple]
        if depths:
            depth = max(depths) + 1
            if depth > DEEPEST_TUPLE:
                raise Refused(f"nests tuples more than {DEEPEST_TUPLE} deep, as no model does")
            self._deep[id(made)] = (made, depth)
        return made

    def _depth(self, item: tuple) -> int:
        known = self._deep.get(id(item))
        return 1 if known is None else known[1]

    def _global(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError(f"a function is named by {type(module).__name__}")
        if len(module) > LONGEST_NAME or len(name) > LONGEST_NAME:
            raise Refused(f"names a function by more than {LONGEST_NAME} characters")
        return self._find_global(module, name)


def _called(function: Any, arguments: Any) -> Any:
    """The result of one of the caller's functions; other values are not called."""
    if not callable(function):
        return IDLE
    if not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
        raise Refused(f"calls a function with more than {MOST_ARGUMENTS} arguments")
    return function(*arguments)


def _set_state(made: Any, state: Any) -> None:
    if hasattr(made, "set_state"):
        made.set_state(state)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif target is not IDLE:
        raise TypeError(f"items are appended to a {type(target).__name__}")


def _set_items(target: Any, items: list[Any]) -> None:
    """Set keys and values, which alternate."""
    if target is IDLE:
        return
    if not isinstance(target, dict | OrderedDict):
        raise TypeError(f"items are set in a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_plain_key(key)] = value


def _plain_key(key: Any) -> Any:
    """The key, if its hash is quick to find and cannot be made equal to many others."""
    if isinstance(key, str | bytes):
        if len(key) > LONGEST_KEY:
            raise Refused(f"has a key of more than {LONGEST_KEY} characters, as no model has")
    elif isinstance(key, int):
        if key.bit_length() > KEY_BITS:
            raise Refused(f"has a number of more than {KEY_BITS} bits as a key, as no model has")
    elif key is not None and key is not IDLE and not isinstance(key, float):
        raise Refused(f"has a key of type {type(key).__name__}, as no model has")
    return key
