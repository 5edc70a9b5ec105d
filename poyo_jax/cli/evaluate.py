"""Decode a split of sessions that a model knows, and score it.

    $ python -m poyo_jax evaluate runs/pretrain sessions/
    $ python -m poyo_jax evaluate runs/monday sessions/monday.h5 --predictions decoded/

With --predictions the decoded behaviour of every session is written as one NumPy archive: times (s
of session time), values and targets (in the units of the session file), scored. An output of
classes has their names, and probabilities; a learned spread is std. With several outputs there is
an archive for each. The last lines tell what the split shares with the train splits of these
sessions: time, trials, neighbours or copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from poyo_jax.cli.options import MaybeFloat, MaybePath, Model, Sessions
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import outputs_lines, sessions_at
from poyo_jax.errors import VocabError
from poyo_jax.files import writable
from poyo_jax.leakage import find_leaks
from poyo_jax.types import each_readout
from poyo_jax.words import counted, some_of

if TYPE_CHECKING:
    from poyo_jax import Pretrained, Session
    from poyo_jax.decoding.offline import Evaluation


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Decode a split of sessions that a model knows, and score it."""

    model: Model
    """Folder of a run or of a saved model, here or on a hub (hf://organisation/name)."""
    data: Sessions
    """A session file, or a folder of them; sessions of a folder that the model does not know are
    left out.
    """
    split: Literal["train", "valid", "test", "all"] = "test"
    """Split to decode."""
    overlap: int = 2
    """Windows that are averaged at each sample; more take longer and decode a little better."""
    stitch: Literal["taper", "mean"] = "taper"
    """Weights of that average: they fall towards the ends of a window, or are equal."""
    causal_step: MaybeFloat = None
    """Decode causally: each window decodes only its last so many seconds; by default overlapping
    windows are averaged.
    """
    predictions: MaybePath = None
    """Folder for the decoded behaviour."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the command line."""
    prog = "python -m poyo_jax evaluate"
    run_command(evaluate_sessions, Evaluate, arguments, prog=prog, description=__doc__)


def evaluate_sessions(options: Evaluate) -> None:
    """Decode, print the scores, and write the predictions."""
    from poyo_jax import evaluate_outputs, load

    pretrained = load(options.model)
    sessions = known_sessions(pretrained, options.data)
    if options.predictions is not None:
        with writable(options.predictions):
            options.predictions.mkdir(parents=True, exist_ok=True)
    print(repr(pretrained))
    count = counted(len(sessions), "session")
    print(f"decoding {count}; compiling comes first and takes a while ...", flush=True)
    evaluations = evaluate_outputs(
        pretrained,
        sessions,
        options.split,
        overlap=options.overlap,
        stitch=options.stitch,
        causal_step=options.causal_step,
    )
    print(outputs_lines(evaluations, options.split))
    if options.split in ("valid", "test"):
        keys = {}
        for session in sessions:
            first = each_readout(pretrained.readouts[session.id])[0]
            keys[session.id] = first.value_key
        print(find_leaks(sessions, options.split, value_keys=keys))
    if options.predictions is not None:
        for name, evaluation in evaluations.items():
            ending = f"_{name}" if len(evaluations) > 1 else ""
            save_predictions(evaluation, options.predictions, ending)


def known_sessions(pretrained: "Pretrained", data: Path) -> list["Session"]:
    """The session of a file, or those of a folder whose ids the model knows; says what is left out.

    Raises VocabError when the model knows none. A known id with new units is refused when it is
    decoded.
    """
    sessions = sessions_at(data)
    known = [session for session in sessions if session.id in pretrained.sessions]
    if not known:
        raise VocabError(
            f"the model does not know {_named(sessions, data)}. Fit new units first with `python"
            f" -m poyo_jax finetune MODEL {data} --out FOLDER`, and evaluate the model in FOLDER."
        )
    if others := [session.id for session in sessions if session.id not in pretrained.sessions]:
        print(f"left out, since the model does not know them: {some_of(others)}")
    return known


def _named(sessions: list["Session"], data: Path) -> str:
    if len(sessions) == 1:
        return f"session {sessions[0].id!r} of {data}"
    return f"any of the {len(sessions)} sessions in {data}"


def save_predictions(evaluation: "Evaluation", folder: Path, ending: str = "") -> None:
    """Write one archive for each session into a folder that exists."""
    for name, decoded in evaluation.predictions.items():
        arrays: dict[str, Any] = {
            "times": decoded.times,
            "values": decoded.values,
            "targets": decoded.targets,
            "scored": decoded.scored,
        }
        if decoded.classes:
            arrays["classes"] = np.array(decoded.classes)
        for extra in ("std", "probabilities"):
            if (values := getattr(decoded, extra)) is not None:
                arrays[extra] = values
        path = folder / f"{name.replace('/', '_')}{ending}.npz"
        with writable(path):
            np.savez_compressed(path, **arrays)
