"""Errors that tell what was wrong, what was expected, and what to do."""

import difflib
from collections.abc import Iterable
from os.path import splitext


class PoyoError(ValueError):
    """Base of every error that poyo_jax raises on purpose; its text is meant for the user."""


class ConfigError(PoyoError):
    """A configuration that cannot work, or that differs from the one a run was started with."""


class SessionError(PoyoError):
    """A session file or array set that breaks the session format."""


class DataError(PoyoError):
    """Sessions that are valid but cannot be used as asked (empty split, no sessions, no window)."""


class RawDataError(PoyoError):
    """A raw recording that is damaged, incomplete, or contradicts known facts of its data set."""


class VocabError(PoyoError):
    """A unit or session that the model does not know, or knows already."""


class CheckpointError(PoyoError):
    """A checkpoint that is missing, incomplete, or belongs to something else."""


class DistributedError(PoyoError):
    """Processes of one job that do not find each other."""


class MissingDependencyError(PoyoError, ImportError):
    """An optional package that is not installed."""


class Diverged(PoyoError):
    """Training produced a loss that is not finite."""


class Interrupted(PoyoError):
    """Training was asked to stop, and saved its state."""


def suggest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return " Did you mean 'x' or 'y'?" with similar names of `known`, or an empty string.

    Names that begin with `name`, or with which it begins, come first. A suffix that all names have,
    such as .h5, makes none of them similar.
    """
    names = list(known)
    suffix = splitext(str(name))[1]
    if not all(other.endswith(suffix) for other in names):
        suffix = ""
    stem, stems = str(name).removesuffix(suffix), [other.removesuffix(suffix) for other in names]
    alike = [other for other in stems if _one_begins_the_other(stem, other)]
    alike.sort(key=lambda other: abs(len(other) - len(stem)))
    alike += difflib.get_close_matches(stem, stems, n=count, cutoff=0.6)
    matches = [repr(other + suffix) for other in list(dict.fromkeys(alike))[:count]]
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def _one_begins_the_other(name: str, other: str) -> bool:
    """Tell if the longer name begins with the shorter, which has three letters at least."""
    shorter, longer = sorted((name, other), key=len)
    return len(shorter) > 2 and longer.startswith(shorter)
