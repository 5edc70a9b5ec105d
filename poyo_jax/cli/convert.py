"""Convert models between folders, safetensors files, and checkpoints of torch_brain.

    $ python -m poyo_jax convert poyo_mp.ckpt --out models/poyo_mp
    $ python -m poyo_jax convert models/poyo_mp --out poyo_mp.safetensors
    $ python -m poyo_jax convert models/poyo_mp --out poyo_mp.ckpt --to-torch

A file that does not end in .safetensors is read as a checkpoint of torch_brain. Neither direction
needs torch, and no code that a checkpoint contains is run. A checkpoint of torch_brain does not say
how behaviour was normalised. Sessions of other data sets than POYO's therefore need a readout: a
JSON file such as {"my_lab": {"value_key": "cursor.vel", "mean": [0, 0], "std": [20, 20]}}, by data
set or by session id.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from poyo_jax import Readout
from poyo_jax.cli.options import MaybePath
from poyo_jax.cli.program import run_command
from poyo_jax.errors import ConfigError
from poyo_jax.files import find_address

TORCH_SUFFIXES = (".ckpt", ".pt", ".pth")
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a model between folders, safetensors files, and checkpoints of torch_brain."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """The .ckpt or .pt file of torch_brain, or a run or saved model (folder, .safetensors file,
    gs://..., hf://organisation/name).
    """
    out: str
    """Folder or .safetensors file to write, or with --to-torch the .ckpt file."""
    to_torch: bool = False
    """Write a checkpoint that torch_brain's POYO.load_pretrained opens."""
    readouts: MaybePath = None
    """JSON file of readouts by session id or data set."""
    licence: str = UNKNOWN
    """Licence of the parameters, for the model card."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax convert"
    run_command(convert, Convert, arguments, prog=prog, description=__doc__)


def convert(options: Convert) -> None:
    """Read one format and write the other."""
    from poyo_jax import from_torch, load, save_torch

    if not options.to_torch and options.out.endswith(TORCH_SUFFIXES):
        raise ConfigError(
            f"--out {options.out} names a file of torch. Add --to-torch, or give a folder or a name"
            " that ends in .safetensors."
        )
    if options.to_torch and options.licence != UNKNOWN:
        raise ConfigError(
            "--licence is for the card of a model of ours, and a checkpoint of torch_brain has"
            " none. Leave it out."
        )
    if options.to_torch or not is_torch_file(options.source):
        if options.readouts is not None:
            raise ConfigError("a saved model has readouts of its own; leave out readouts.")
        pretrained = load(options.source)
    else:
        pretrained = from_torch(options.source, readouts=read_readouts(options.readouts))
    if options.to_torch:
        save_torch(pretrained, options.out)
    else:
        pretrained.save(options.out, licence=options.licence)
    print(f"{pretrained!r} is in {options.out}")


def is_torch_file(source: str) -> bool:
    """Tell if the source is read as a checkpoint of torch_brain, and not as a model of ours."""
    from poyo_jax.checkpoint.safetensors_file import is_file_name

    own = is_file_name(source) or find_address(source) is not None or Path(source).is_dir()
    return not own


def read_readouts(path: Path | None) -> dict[str, Readout]:
    """Readouts of a JSON file; raises ConfigError when it holds none."""
    if path is None:
        return {}
    try:
        items = json.loads(path.read_text(encoding="utf-8")).items()
    except (OSError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} holds no readouts ({error}). Write {{data set or session id: readout}}."
        ) from error
    return {name: Readout.from_json(json.dumps(value)) for name, value in items}
