"""Commands of `python -m poyo_jax`, and the choice of one by its name."""

import sys
from collections.abc import Sequence
from importlib import import_module

from poyo_jax.cli.program import run_program
from poyo_jax.errors import ConfigError, suggest

COMMANDS = {
    "pretrain": "train a model on a folder of sessions, or continue an interrupted run",
    "finetune": "adapt a pretrained model to sessions that it does not know",
    "evaluate": "decode a split of sessions and score it",
    "convert": "convert models between folders, safetensors files and torch_brain",
    "simulate": "write the sessions of a simulated laboratory",
    "stream": "decode spikes as they arrive",
    "report": "write a page about a run",
    "explore": "serve a page on which you watch a model decode",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names, with the others as its options."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] in ("-h", "--help"):
        run_program(print, overview())
        return
    command, *options = given
    if command in COMMANDS:
        import_module(f"poyo_jax.cli.{command}").main(options)
    else:
        run_program(refuse, command)


def overview() -> str:
    """The commands, one on a line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m poyo_jax COMMAND ...",
            "",
            *lines,
            "",
            "`python -m poyo_jax COMMAND --help` lists the options of a command.",
        ]
    )


def refuse(command: str) -> None:
    """Raise ConfigError for a command that does not exist."""
    raise ConfigError(
        f"there is no command {command!r}.{suggest(command, COMMANDS)}"
        " `python -m poyo_jax` lists the commands."
    )
