"""The checker of type and shape annotations that `make test` puts on every function of the
package.
"""

from typing import TypeVar

from beartype import BeartypeConf, beartype

Checked = TypeVar("Checked")

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is due


def checked(item: Checked) -> Checked:
    """Check calls of a function or class, unless it belongs to the command line.

    There tyro marks missing options by a value of a type of its own.
    """
    if item.__module__.startswith("poyo_jax.cli"):
        return item
    return _check(item)
