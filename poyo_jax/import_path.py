"""Import paths in a configuration: "module:Class" names a class without a registry."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass
from pkgutil import iter_modules
from types import ModuleType

from poyo_jax.errors import ConfigError, suggest

PACKAGE = "poyo_jax"


class NotImportedError(ConfigError):
    """A setting names a class of a module that has not been imported."""


def resolve(path: str, setting: str) -> type:
    """Return the class that `path` names, e.g. "poyo_jax.tasks:Regression".

    A saved configuration may come from a stranger. So a module outside poyo_jax is never imported
    here: the program that uses the class imports it first. The caller checks that the class has
    what it needs before it makes an instance.

    Args:
        path: "module:Class".
        setting: name of the setting that holds the path, e.g. "ModelConfig.task", for messages.

    Raises:
        ConfigError: the path is malformed, or its module or class does not exist.
        NotImportedError: its module lies outside poyo_jax and has not been imported.
    """
    module_name, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    identifiers = [*module_name.split("."), name]
    if not colon or not all(part.isidentifier() for part in identifiers):
        raise ConfigError(
            f"{setting} is {path!r}; it must be an import path 'module:Class', such as"
            " 'poyo_jax.tasks:Regression'."
        )
    # Attributes that a module makes when they are asked for may import other modules.
    attributes = vars(_module(module_name, path, setting))
    value = attributes.get(name)
    if value is None:
        known = [key for key, item in attributes.items() if isclass(item)]
        raise ConfigError(
            f"{setting} is {path!r}, but module {module_name} has no class"
            f" {name!r}.{suggest(name, known)} Correct the path, or update the package that holds"
            " the module."
        )
    if not isclass(value):
        raise ConfigError(
            f"{setting} is {path!r}, which is of type {type(value).__name__}; it must name a class."
        )
    return value


def resolve_with(path: str, setting: str, members: Sequence[str], what: str, advice: str) -> type:
    """Return the class that `path` names, which has all members of an interface.

    Args:
        path: "module:Class".
        setting: name of the setting that holds the path.
        members: names of what the class must have.
        what: the interface in words, e.g. "a task", for messages.
        advice: what to derive the class from.

    Raises:
        ConfigError: the class lacks a member, or there is none (`resolve`).
    """
    kind = resolve(path, setting)
    missing = [name for name in members if not hasattr(kind, name)]
    if missing:
        raise ConfigError(
            f"{setting} is {path!r}, which is not {what}: it has no {', '.join(missing)}. Derive"
            f" it from {advice}."
        )
    return kind


def _module(name: str, path: str, setting: str) -> ModuleType:
    """Return a module of poyo_jax, or one that has been imported already."""
    imported = sys.modules.get(name)
    if isinstance(imported, ModuleType):
        return imported
    if name.partition(".")[0] != PACKAGE:
        raise NotImportedError(
            f"{setting} is {path!r}, but module {name} has not been imported, and a"
            f" configuration imports nothing outside {PACKAGE}. If you trust the module, import it"
            f" first: `import {name}`."
        )
    if not _exists(name):
        raise ConfigError(
            f"{setting} is {path!r}, but there is no module"
            f" {name}.{suggest(name, _siblings(name))} Correct the path, or update poyo_jax."
        )
    return import_module(name)


def _exists(name: str) -> bool:
    """Tell whether a module of poyo_jax exists; none lies inside a module that is no package."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _siblings(name: str) -> list[str]:
    """List the modules of the nearest package that exists."""
    parent = name.rpartition(".")[0]
    while not _exists(parent):
        parent = parent.rpartition(".")[0]
    places = getattr(import_module(parent), "__path__", [])
    return [f"{parent}.{module.name}" for module in iter_modules(places)]
