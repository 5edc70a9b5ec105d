"""Errors in the words of the command line.

The sentences of the package name arguments of Python functions, such as `known='refit'`. A user of
a command has its options: `--known refit`.
"""

import re
import types
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from tyro.conf import OmitArgPrefixes, Positional

# Calls that the package advises, and what a user of the commands does.
FIT = "with `python -m poyo_jax finetune MODEL SESSION --out FOLDER`"
CALLS = {
    "with poyo_jax.fit_units(pretrained, [session]), and decode with the `pretrained` of its"
    " result": f"{FIT}, and decode with the model in FOLDER",
    "with poyo_jax.fit_units": FIT,
    ", or give a FitConfig": "",
    ", or open one session with poyo_jax.Session.open(path)": "",
}
READOUTS = re.compile(r"Pass readouts=\{'([^']*)': Readout\(.*?\)\}")
READOUT_FILE = (
    r'Give --readouts FILE, a JSON file with {"\1": {"value_key": ..., "mean": [...], "std":'
    r" [...]}}"
)
VALUE = r"'[^']*'|\"[^\"]*\"|\[[^]]*\]|[\w+-]+(?:\.\d+)?"


def option_names(kind: object) -> dict[str, str]:
    """Map the names of a command's settings to its options.

    A setting has the names "Config.field" and "field"; the latter only if no other has it. `kind`
    is the dataclass of the command, or a union of several.
    """
    pairs = list(_options(kind, ""))
    count = Counter(name for name, _ in set(pairs))
    return {name: option for name, option in pairs if count[name] == 1}


def _options(kind: object, prefix: str) -> Iterator[tuple[str, str]]:
    """Pairs (name, option) of all fields of a dataclass, and of those inside it."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inside = "" if OmitArgPrefixes in typing.get_args(kind) else prefix
        yield from _options(typing.get_args(kind)[0], inside)
    elif origin in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            yield from _options(member, prefix)
    elif isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            option = f"{prefix}{field.name.replace('_', '-')}"
            hint = hints[field.name]
            nested = list(_options(hint, f"{option}."))
            yield from nested
            if not nested:
                option = _metavar(hint) or f"--{option}"
                yield f"{kind.__name__}.{field.name}", option
                yield field.name, option


def _metavar(hint: object) -> str | None:
    """The word for a positional argument in the usage line; None for an option."""
    facts = typing.get_args(hint)
    if Positional not in facts:
        return None
    return next((fact.metavar for fact in facts if getattr(fact, "metavar", None)), None)


def in_options(text: str, options: dict[str, str]) -> str:
    """Write a sentence of the package in the words of a command with these options."""
    for call, command in CALLS.items():
        text = text.replace(call, command)
    text = READOUTS.sub(READOUT_FILE, text)
    if not options:
        return text
    names = "|".join(re.escape(name) for name in sorted(options, key=len, reverse=True))

    def with_value(match: re.Match[str]) -> str:
        option, value = options[match[1]], match[2].strip("'\"")
        if value == "False":
            place = option.rfind(".") + 1 or len("--")
            return f"{option[:place]}no-{option[place:]}"
        return option if value == "True" else f"{option} {value}"

    text = re.sub(rf"(?<![\w./-])({names})=({VALUE})", with_value, text)
    text = re.sub(rf"^({names})(?= is | names )", lambda match: options[match[1]], text)
    # Other words than names of Python have no underline and no point before the last letter.
    python = "|".join(re.escape(name) for name in options if "_" in name or "." in name)
    if python:
        pattern = rf"`?(?<![\w./='\"-])({python})(?![\w/='\"-])`?"
        text = re.sub(pattern, lambda match: options[match[1]], text)
    return text
