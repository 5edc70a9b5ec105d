"""Every public name is documented: on the API pages, with shapes and units of arrays, and with what
is raised.
"""

import ast
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from poyo_jax import errors

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))
import api_names

# Packages list their public names; of these modules all names are public that do not begin with _.
PACKAGES = (
    "poyo_jax",
    "poyo_jax.finetune",
    "poyo_jax.baselines",
    "poyo_jax.data",
    "poyo_jax.data.simulate",
    "poyo_jax.falcon",
    "poyo_jax.native",
    "poyo_jax.presets",
    "poyo_jax.realtime",
    "poyo_jax.report",
    "poyo_jax.shipped",
)
MODULES = (
    "config",
    "ensemble",
    "errors",
    "explore.explorer",
    "explore.server",
    "leakage",
    "metrics",
    "plots.errors",
    "plots.learning",
    "plots.scores",
    "plots.time",
    "report.sections",
    "surgery",
    "tasks",
    "tuning",
    "types",
    "watch.monitor",
    "watch.server",
)

SHAPE = re.compile(r"\[[\w, .]+\]")  # [samples, channels]
UNIT = re.compile(
    r"\b(s|seconds?|Hz|units of|same units|normalised|SD|R2|rows?|positions?|counts?|embeddings?)\b"
)
ERRORS = {
    name
    for name, item in vars(errors).items()
    if inspect.isclass(item) and issubclass(item, errors.PoyoError)
}


def public_names() -> Iterator[tuple[str, object]]:
    for package in PACKAGES:
        module = import_module(package)
        yield from ((f"{package}.{name}", getattr(module, name)) for name in module.__all__)
    for name in MODULES:
        module = import_module(f"poyo_jax.{name}")
        own = ((key, item) for key, item in vars(module).items() if not key.startswith("_"))
        yield from (
            (f"{module.__name__}.{key}", item) for key, item in own if _made_in(item, module)
        )


def _made_in(item: object, module: object) -> bool:
    return (
        inspect.isclass(item) or inspect.isfunction(item)
    ) and item.__module__ == module.__name__


class Documented(typing.NamedTuple):
    """A function or class on the API pages, or a public method or property of such a class."""

    name: str
    item: typing.Any
    owner: type | None = None

    @property
    def doc(self) -> str:
        """Its docstring, and for what belongs to making an object that of the class."""
        own = getattr(self.item, "__doc__", None) or ""
        return f"{self.owner.__doc__}\n{own}" if self.makes and self.owner else own

    @property
    def makes(self) -> bool:
        """Whether it belongs to making an object, of which the class tells."""
        return self.name.endswith((".__init__", ".__post_init__"))

    @property
    def function(self) -> Callable | None:
        """The function behind a method or property."""
        item = self.item.fget if isinstance(self.item, property) else self.item
        item = getattr(item, "func", item) if isinstance(item, cached_property) else item
        return inspect.unwrap(getattr(item, "__func__", item)) if callable(item) else None


def documented() -> Iterator[Documented]:
    made = ("__init__", "__post_init__", "__call__")
    for name in api_names.listed():
        item = api_names.find(name)
        if not (inspect.isclass(item) or inspect.isfunction(item)):
            continue
        yield Documented(name, item)
        for key, member in api_names.members_of(item).items() if inspect.isclass(item) else ():
            wanted = not key.startswith("_") or (
                key in made and not (key == "__init__" and is_dataclass(item))
            )
            kinds = property | cached_property | classmethod | staticmethod
            if wanted and (inspect.isfunction(member) or isinstance(member, kinds)):
                yield Documented(f"{name}.{key}", member, item)


@pytest.fixture(scope="module")
def items() -> list[Documented]:
    return list(documented())


@pytest.fixture(scope="module")
def functions(items: list[Documented]) -> list[Documented]:
    return [each for each in items if not inspect.isclass(each.item) and each.function is not None]


def fails(check: Callable[[Documented], Iterable[str]], items: list[Documented]) -> list[str]:
    """Every complaint of a check, with the name of the item that it is about."""
    return [f"{each.name}: {complaint}" for each in items for complaint in check(each)]


def test_api_pages_list_every_public_name_once():
    listed = api_names.listed()
    pages = {id(api_names.find(name)): name for name in listed}
    missing = sorted(name for name, item in public_names() if id(item) not in pages)
    assert not missing, "docs/api lacks these"
    assert len(pages) == len(listed), "docs/api lists something twice"


def test_many_items_are_checked(items, functions):
    records = [each for each in items if _is_record(each.item)]
    assert len(items) > 200 and len(functions) > 100 and len(records) > 20


def test_every_item_has_a_docstring_of_its_own(items):
    without_constructors = [each for each in items if not each.makes]
    assert not fails(_lacks_docstring, without_constructors)


def test_fields_are_explained(items):
    """A comment `#:`, a docstring under the field, or the docstring of the class explains it."""
    records = [each for each in items if _is_record(each.item)]
    assert not fails(_unexplained_fields, records)


def test_arrays_have_shapes_and_units(functions):
    assert not fails(_untold_arrays, functions)


def test_raised_errors_are_documented(functions):
    assert not fails(_untold_errors, functions)


def _is_record(item: object) -> bool:
    return is_dataclass(item) or hasattr(item, "_fields")


def _lacks_docstring(each: Documented) -> Iterator[str]:
    doc = (each.item.__doc__ or "").strip()
    by_dataclass = inspect.isclass(each.item) and doc.startswith(f"{each.item.__name__}(")
    if not doc or by_dataclass:
        yield "it has no docstring"
    elif not doc.split("\n\n")[0].rstrip().endswith((".", ":", "::", "?")):
        yield "the first paragraph is no sentence"


def _unexplained_fields(each: Documented) -> Iterator[str]:
    source = textwrap.dedent(inspect.getsource(each.item))
    lines = source.splitlines()
    body = ast.parse(source).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
    for field, below in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        name = field.target.id
        beside = "#: " in lines[field.end_lineno - 1]  # pyright: ignore[reportOptionalOperand]
        under = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if not (beside or under or re.search(rf"\b{name}\b", each.doc)):
            yield f"the field {name} is not explained"


def _untold_arrays(each: Documented) -> Iterator[str]:
    try:
        hints = {} if each.function is None else typing.get_type_hints(each.function)
    except NameError as error:
        yield f"its annotations cannot be read: {error}"
        return
    arrays = {name: hint for name, hint in hints.items() if _is_array(hint)}
    unshaped = [name for name, hint in arrays.items() if not _is_shaped(hint)]
    doc = _doc_of(each)
    if unshaped and not SHAPE.search(doc):
        yield f"the shape of {', '.join(unshaped)} is not told"
    if arrays and not UNIT.search(doc):
        yield f"the unit of {', '.join(arrays)} is not told"


def _untold_errors(each: Documented) -> Iterator[str]:
    told = _doc_of(each)
    for name in sorted(set(_raised(each.function, set()))):
        if not re.search(rf"\b[Rr]aises?\b.*\b{name}\b", told, re.DOTALL):
            yield f"{name} is not told"


def _doc_of(each: Documented) -> str:
    """The docstring, with that of the class for what makes an object or is called in its place."""
    return f"{each.doc}\n{each.owner.__doc__}" if each.owner else each.doc


def _parts(hint: object) -> Iterator[object]:
    yield hint
    for part in typing.get_args(hint):
        yield from _parts(part)


def _is_array(hint: object) -> bool:
    return any(
        part is np.ndarray
        or _is_shaped(part)
        or getattr(part, "__name__", "") == "ArrayLike"
        or "_ArrayLike" in str(part)
        or "_SupportsArray" in str(part)
        for part in _parts(hint)
    )


def _is_shaped(hint: object) -> bool:
    return any(hasattr(part, "dim_str") for part in _parts(hint))


def _raised(function: Callable | None, seen: set[str]) -> Iterator[str]:
    """Names of this package's errors that a function raises itself, or through functions of its
    module named _so.
    """
    if (
        function is None
        or not function.__module__.startswith("poyo_jax")
        or function.__qualname__ in seen
    ):
        return
    seen.add(function.__qualname__)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    module = sys.modules[function.__module__]
    caught = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is not None
        for name in ast.walk(node.type)
        if isinstance(name, ast.Name)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ):
            if node.exc.func.id in ERRORS:
                yield node.exc.func.id
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id.startswith("_")
        ):
            helper = getattr(module, node.func.id, None)
            if inspect.isfunction(helper):
                yield from (
                    name for name in _raised(helper, seen) if not {name, "PoyoError"} & caught
                )
