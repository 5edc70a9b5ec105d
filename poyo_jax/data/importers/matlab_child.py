"""The program of a child process that reads a MATLAB file before the parent does."""

from pathlib import Path

from poyo_jax.data.importers.matlab import load_variables
from poyo_jax.data.io.trial_child import serve


def read_variables(path: Path, names: list[str]) -> None:
    """Read the variables as the parent will."""
    load_variables(path, names)


if __name__ == "__main__":
    serve(read_variables)
