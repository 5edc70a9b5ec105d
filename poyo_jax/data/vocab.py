"""Names of units and sessions, and the rows of the embedding tables that belong to them."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32

from poyo_jax.errors import VocabError, suggest


class Vocab:
    """Distinct names in the order of their rows; row 0 of a table is padding, so the first name has row 1."""

    def __init__(self, names: Iterable[str] = ()):
        self.names: tuple[str, ...] = tuple(names)
        self._rows = {name: row for row, name in enumerate(self.names, start=1)}
        if len(self._rows) != len(self.names):
            seen: set[str] = set()
            twice = next(name for name in self.names if name in seen or seen.add(name))
            raise VocabError(
                f"{twice!r} occurs twice. Units and sessions need distinct names: give the sessions distinct ids."
            )

    @property
    def num_rows(self) -> int:
        """Rows of the table, padding included."""
        return len(self.names) + 1

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"Vocab({len(self)} names)"

    def rows(self, names: Sequence[str]) -> Int32[np.ndarray, " names"]:
        """Rows of `names`; raises VocabError for a name that is not in the vocabulary."""
        try:
            return np.fromiter((self._rows[name] for name in names), np.int32, count=len(names))
        except KeyError as error:
            name = error.args[0]
            raise VocabError(
                f"{name!r} is not in the vocabulary of {len(self)} names.{suggest(name, self.names)}"
            ) from None

    def extend(self, names: Iterable[str]) -> "Vocab":
        """A vocabulary with `names` behind the present ones, whose rows do not change."""
        return Vocab((*self.names, *names))
