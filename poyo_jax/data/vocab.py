"""Names of units and sessions, and the rows of the embedding tables that belong to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from jaxtyping import Int32

from poyo_jax.errors import VocabError, suggest
from poyo_jax.words import counted, some_of

MAX_LINES = 20  # of a vocabulary that is printed


class Vocab:
    """Distinct names in the order of their rows, from row 1 on; row 0 of a table is padding.

    Raises VocabError when a name occurs twice.
    """

    def __init__(self, names: Iterable[str] = ()):
        self.names: tuple[str, ...] = tuple(names)
        self._rows = {name: row for row, name in enumerate(self.names, start=1)}
        if len(self._rows) != len(self.names):
            seen: set[str] = set()
            twice = next(name for name in self.names if name in seen or seen.add(name))
            raise VocabError(
                f"{twice!r} occurs twice. Units and sessions need distinct names: give the sessions"
                " distinct ids."
            )

    @property
    def num_rows(self) -> int:
        """Rows of the table, padding included."""
        return len(self.names) + 1

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def beginning_of(self, name: str) -> str:
        """The longest of the names here with which "<name>/<rest>" begins; "" without one.

        Among ids of sessions, it is that of a unit's session.
        """
        parts = name.split("/")
        beginnings = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
        return next((beginning for beginning in beginnings if beginning in self), "")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Vocab({counted(len(self), 'name')})"

    def rows(self, names: Sequence[str]) -> Int32[np.ndarray, " names"]:
        """Rows of `names`; raises VocabError for a name that is not in the vocabulary."""
        try:
            rows = (self._rows[name] for name in names)
            return np.fromiter(rows, np.int32, count=len(names))
        except KeyError as error:
            name = error.args[0]
            near = suggest(name, self.names)
            raise VocabError(
                f"{name!r} is not in the vocabulary of {counted(len(self), 'name')}."
                f"{near or self._some()}"
            ) from None

    def _some(self) -> str:
        """A sentence with the first names, or nothing without any."""
        return f" Choose {some_of(self.names)}." if self.names else ""

    def extend(self, names: Iterable[str]) -> "Vocab":
        """A vocabulary with `names` behind the present ones, whose rows do not change."""
        return Vocab((*self.names, *names))

    def subset(self, names: Iterable[str]) -> "Vocab":
        """Make a vocabulary of these names alone, in the order of their rows here.

        Raises VocabError for a name that is not in this vocabulary.
        """
        chosen = set(names)
        self.rows(sorted(chosen))
        return Vocab(name for name in self.names if name in chosen)

    def rename(self, changes: Mapping[str, str]) -> "Vocab":
        """A vocabulary in which names, by present name, are others and rows are the same.

        Raises VocabError for a name that is not here, or when two would have one name.
        """
        self.rows(list(changes))
        return Vocab(changes.get(name, name) for name in self.names)

    def merge(self, other: "Vocab") -> "Vocab":
        """The names of both: those of `other` that are not here behind the present ones."""
        return self.extend(name for name in other.names if name not in self)

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Names that fit a pattern with * and ?, such as "chewie_*/unit_0?"."""
        return tuple(name for name in self.names if fnmatchcase(name, pattern))

    def __str__(self) -> str:
        """A table of the names, in groups of equal beginnings up to the last /."""
        groups: dict[str, list[str]] = {}
        for name in self.names:
            group, _, _ = name.rpartition("/")
            groups.setdefault(group, []).append(name)
        lines = [f"{'rows':>13}  names"]
        for group, names in list(groups.items())[:MAX_LINES]:
            rows = self.rows([names[0], names[-1]]).tolist()
            ends = [names[0]]
            if len(names) > 1:
                ends.append(names[-1].removeprefix(f"{group}/"))
            lines.append(f"{rows[0]:6}-{rows[1]:<6}  {len(names)}: {' ... '.join(ends)}")
        left = len(groups) - MAX_LINES
        return "\n".join(lines + ([f"and {left} more groups"] if left > 0 else []))


@dataclass(frozen=True)
class VocabReport:
    """Names that a change of a vocabulary kept, added and dropped."""

    kept: tuple[str, ...]  #: names before and after
    new: tuple[str, ...]  #: names after alone
    dropped: tuple[str, ...]  #: names before alone

    @classmethod
    def compare(cls, before: Vocab, after: Vocab) -> "VocabReport":
        """The names of both, those of `after` alone, and those of `before` alone."""
        return cls(
            kept=tuple(name for name in before.names if name in after),
            new=tuple(name for name in after.names if name not in before),
            dropped=tuple(name for name in before.names if name not in after),
        )

    def __str__(self) -> str:
        """One line, with an example of what is new and of what was dropped."""
        counts = [f"{len(self.kept)} kept"]
        for what, names in (("new", self.new), ("dropped", self.dropped)):
            example = f" (first {names[0]})" if names else ""
            counts.append(f"{len(names)} {what}{example}")
        return ", ".join(counts)
