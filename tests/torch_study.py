"""Train torch_brain for a few steps as the study does, and score it as torch and as our model.

    torch_study.py SESSION.h5 optim.py    prints both test R2 as JSON

Needs an environment with torch_brain and poyo_jax (experiments/studies/against_torch_brain.py).
"""

import json
import sys
from pathlib import Path

from experiments.studies import peer_training
from experiments.studies.against_torch_brain import PEER, recipe
from experiments.studies.table2 import score_model
from poyo_jax import Session, from_torch
from poyo_jax.data.readout import default_readout
from poyo_jax.surgery import rename_sessions, rename_units


def main(path: str, sparse_lamb: str) -> None:
    session = Session.open(path)
    config = recipe({"kind": PEER, "num_steps": 6, "batch_size": 8, "seed": 0})
    model = peer_training.new_model(session, config)
    scores = peer_training.train(model, session, config, Path(sparse_lamb))
    names = {"s0": session.id}
    readouts = {"s0": default_readout(session)}
    ours = rename_sessions(
        from_torch(model.state_dict(), config=config.model, readouts=readouts), names
    )
    units = {f"{session.id}/u{place}": name for place, name in enumerate(session.unit_names)}
    ours = rename_units(ours, units)
    print(json.dumps([scores["r2"], score_model(ours, session)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
