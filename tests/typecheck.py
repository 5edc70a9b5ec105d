"""The checker of type and shape annotations that `make test` puts on every function of the
package.
"""

import functools
from collections import Counter
from typing import Any, TypeVar

from beartype import BeartypeConf, beartype

Checked = TypeVar("Checked")
# A check costs more than many a call. What holds for so many calls in a file holds for the rest.
CALLS_CHECKED = 30

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is due
_calls: Counter[int] = Counter()


def begin_file() -> None:
    """Count the calls of every function from zero."""
    _calls.clear()


def checked(item: Checked) -> Checked:
    """Check the first calls of a function in every file of tests, but not of the command line.

    There tyro marks missing options by a value of a type of its own. A class is checked always.
    """
    if item.__module__.startswith("poyo_jax.cli"):
        return item
    if isinstance(item, type):
        return _check(item)
    make_check: Any = functools.cache(lambda: _check(item))  # most functions are never called

    @functools.wraps(item)
    def check_first_calls(*args, **kwargs):
        _calls[id(item)] += 1
        if _calls[id(item)] <= CALLS_CHECKED:
            make_check()(*args, **kwargs)

    return check_first_calls
