"""The checker of type and shape annotations that `make test` puts on every function of the
package.
"""

from beartype import BeartypeConf, beartype

checked = beartype(
    conf=BeartypeConf(is_pep484_tower=True)
)  # an int will do where a float is asked for
