"""Put a model into the package, so that poyo_jax.load("NAME") finds it on every computer.

    $ python -m experiments.tools.ship runs/simulated --name poyo_small \\
          --summary "0.5 M parameters, pretrained on simulated reaching." --licence cc0-1.0

Writes NAME.safetensors and, unless it is there, the model card NAME.md into poyo_jax/shipped, and
lists the model with its digest. Edit the card before a release: it must say what the model is good
for, what it is not good for, and which command made it.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from poyo_jax.cli.options import Model
from poyo_jax.cli.program import run_command
from poyo_jax.errors import ConfigError
from poyo_jax.files import write_bytes, write_text
from poyo_jax.shipped import FOLDER, LIST, MAX_BYTES, NAME


@dataclass(frozen=True, kw_only=True)
class Ship:
    """Put a model into the package."""

    model: Model
    """Folder of a run or of a saved model."""
    step: int | None = None
    """Checkpoint of the run; None takes the best on the valid splits."""
    name: str
    """Name that `poyo_jax.load` will take: letters, digits, _ and -."""
    summary: str
    """A sentence for `poyo_jax.pretrained_models()`."""
    licence: str
    """Licence of the parameters, for the card."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(ship, Ship, arguments, description=__doc__)


def ship(options: Ship) -> None:
    """Write the file, the card and the entry of the list."""
    from poyo_jax import load

    if not NAME.fullmatch(options.name):
        raise ConfigError(
            f"the name {options.name!r} has other characters than A-Z, a-z, 0-9, _ and -."
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{options.name}.safetensors"
        load(options.model, step=options.step).save(file, licence=options.licence)
        add(file, options.summary)
    print(f"{FOLDER / file.name} is listed; edit its card, {file.stem}.md")


def add(file: Path, summary: str) -> None:
    """Copy a model into the package, and its card unless there is one; list it."""
    content = file.read_bytes()
    others = [path for path in FOLDER.glob("*.safetensors") if path.name != file.name]
    size = len(content) + sum(path.stat().st_size for path in others)
    if size > MAX_BYTES:
        raise ConfigError(
            f"the models of the package would take {size} bytes, more than {MAX_BYTES}. Ship a"
            " smaller one, or remove another one first."
        )
    write_bytes(FOLDER / file.name, content)
    card = FOLDER / f"{file.stem}.md"
    if not card.exists():
        write_bytes(card, file.with_suffix(".md").read_bytes())
    models = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
    models[file.stem] = {"sha256": hashlib.sha256(content).hexdigest(), "summary": summary}
    write_text(FOLDER / LIST, json.dumps(models, indent=4, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
