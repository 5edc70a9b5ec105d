"""Train torch_brain as the study does, and compare with our model: scores, and losses of a run.

    torch_study.py SESSION.h5 optim.py FOLDER    prints {"scores": [theirs, ours], "losses": ...}

Scores are of the same weights. Losses are of training from the same weights without dropout, in the
published recipe, by torch_brain and by `train_model`, whose run goes to FOLDER. Needs an
environment with torch_brain and poyo_jax (experiments/studies/against_torch_brain.py).
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from experiments.studies import peer_training
from experiments.studies.against_torch_brain import PEER, recipe
from experiments.studies.real_small import score_model
from poyo_jax import Pretrained, Session, from_torch, train_model
from poyo_jax.config import Config
from poyo_jax.data.readout import default_readout
from poyo_jax.surgery import rename_sessions, rename_units
from poyo_jax.train.writers import read_metrics

NO_DROPOUT = dict.fromkeys(("feedforward_dropout", "residual_dropout", "attention_dropout"), 0.0)


def main(path: str, sparse_lamb: str, folder: str) -> None:
    session, optimiser = Session.open(path), Path(sparse_lamb)
    of_steps = losses(session, optimiser, Path(folder))
    print(json.dumps({"scores": scores(session, optimiser), "losses": of_steps}))


def scores(session: Session, optimiser: Path) -> list[float]:
    """Test R2 of the same weights as a model of torch_brain and as ours."""
    config = recipe({"kind": PEER, "num_steps": 6, "batch_size": 8, "seed": 0})
    model = peer_training.new_model(session, config)
    cell = peer_training.train(model, session, config, optimiser)
    return [cell["r2"], score_model(as_ours(model, session, config), session)]


def losses(session: Session, optimiser: Path, folder: Path) -> list[list[float]]:
    """Losses [steps] of torch_brain and of ours."""
    config = recipe({"kind": PEER, "num_steps": 20, "batch_size": 4, "seed": 0})
    run = replace(config.run, log_every=1)
    config = replace(config, model=replace(config.model, depth=2, **NO_DROPOUT), run=run)
    model = peer_training.new_model(session, config)
    start = as_ours(model, session, config)
    start.save(folder / "start")
    theirs = list(peer_training.losses(model, session, config, optimiser))
    config = replace(config, model=start.config.model)
    train_model(config, [session], folder / "run", init_from=folder / "start", progress=False)
    ours = [line["loss"] for line in read_metrics(folder / "run") if "loss" in line]
    return [theirs, ours]


def as_ours(model: peer_training.POYO, session: Session, config: Config) -> Pretrained:
    """The model of torch_brain as one of ours, with the names of the session."""
    readouts = {"s0": default_readout(session)}
    ours = from_torch(model.state_dict(), config=config.model, readouts=readouts)
    ours = rename_sessions(ours, {"s0": session.id})
    units = {f"{session.id}/u{place}": name for place, name in enumerate(session.unit_names)}
    return rename_units(ours, units)


if __name__ == "__main__":
    main(*sys.argv[1:])
