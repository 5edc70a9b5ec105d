"""Train and score POYO of torch_brain on one recording, in its published recipe.

Runs in an environment with torch and torch_brain; see against_torch_brain.py.
"""

import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_brain.batching import collate, pad8
from torch_brain.models import POYO

from experiments.benchmarks.peer import OF_LOSS, load_sparse_lamb, make_model, weighted_mse
from experiments.studies.real_small import OVERLAP
from experiments.studies.results import Cell
from poyo_jax import Session
from poyo_jax.config import Config
from poyo_jax.data.batches.pipeline import TrainBatches
from poyo_jax.data.batches.tokens import ModelSession, Window, cut_window
from poyo_jax.data.readout import default_readout
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.predict import window_starts
from poyo_jax.decoding.score import mean_scores, score_outputs
from poyo_jax.decoding.stitch import SessionStitcher, equal_weights
from poyo_jax.types import SPIKE, START


def train_peer(session: Session, config: Config, sparse_lamb: Path) -> Cell:
    """Test R2 of a new model after its last step, and seconds of training on one thread."""
    return train(new_model(session, config), session, config, sparse_lamb)


def new_model(session: Session, config: Config) -> POYO:
    """A model of torch_brain with the units of the session, called s0/u0 and so on."""
    torch.manual_seed(config.data.seed)
    torch.set_num_threads(1)
    settings = config.model.__dict__ | {"num_channels": 2}
    return make_model(settings, [len(session.unit_ids)])


def train(model: POYO, session: Session, config: Config, sparse_lamb: Path) -> Cell:
    """Test R2 after the last step, and seconds of training."""
    began = time.monotonic()
    for number, loss in enumerate(losses(model, session, config, sparse_lamb)):
        if number % 50 == 0:
            print(
                f"step {number}: loss {loss:.3f}, {time.monotonic() - began:.0f} s", file=sys.stderr
            )
    seconds = time.monotonic() - began
    return {"r2": score_peer(model, session, config), "train_s": round(seconds, 1)}


def losses(model: POYO, session: Session, config: Config, sparse_lamb: Path) -> Iterator[float]:
    """Train on the windows that our pipeline draws; the loss of every step."""
    source = labelled(session, "train")
    step = make_step(model, config, sparse_lamb)
    data, num_steps = config.data, config.run.num_steps
    batches = TrainBatches([source], data, config.model.window_length, num_steps)
    for number in range(num_steps):
        windows = batches.windows(number * data.batch_size + np.arange(data.batch_size))
        yield step(collate_windows(model, windows))


def labelled(session: Session, split: str) -> ModelSession:
    """The session with the labels of a split, and the readout that our models have."""
    units, sessions = Vocab(session.unit_names), Vocab([session.id])
    readout, intervals = default_readout(session), session.split(split)
    return ModelSession.build(session, readout, units, sessions, intervals)


def collate_windows(model: POYO, windows: Sequence[Window]) -> dict[str, torch.Tensor]:
    """A batch of torch_brain, by its own tokeniser."""
    samples = []
    for window in windows:
        is_spike = window.token_kinds == SPIKE
        units = window.token_units[window.token_kinds == START]  # those that unit dropout kept
        places = np.searchsorted(units, window.token_units[is_spike])
        data = types.SimpleNamespace(
            units=types.SimpleNamespace(id=[f"s0/u{unit}" for unit in units]),
            spikes=types.SimpleNamespace(
                unit_index=places, timestamps=window.token_times[is_spike]
            ),
            session=types.SimpleNamespace(id="s0"),
        )
        queries = {
            "output_timestamps": window.query_times,
            "target": window.targets,
            "weights": window.target_weights.astype(np.float32),
            "output_mask": np.ones(len(window.query_times), bool),
        }
        sample = model.tokenize(data)
        samples.append(sample | {name: pad8(value) for name, value in queries.items()})
    return collate(samples)


def make_step(model: POYO, config: Config, sparse_lamb: Path) -> Callable[[dict], float]:
    """A step of training in the published recipe: SparseLamb and OneCycleLR."""
    optim = config.optim
    tables = [model.unit_emb.weight, model.session_emb.weight]
    in_tables = {id(tensor) for tensor in tables}
    others = [tensor for tensor in model.parameters() if id(tensor) not in in_tables]
    groups = [{"params": tables, "sparse": True}, {"params": others}]
    optimizer = load_sparse_lamb(sparse_lamb)(
        groups, lr=optim.learning_rate, weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=optim.learning_rate,
        total_steps=config.run.num_steps,
        pct_start=optim.pct_start,
        anneal_strategy="cos",
        div_factor=1,
    )

    def step(batch: dict) -> float:
        model.train()
        optimizer.zero_grad()
        outputs = model(**{name: value for name, value in batch.items() if name not in OF_LOSS})
        loss = weighted_mse(outputs, batch)
        loss.backward()
        optimizer.step()
        schedule.step()
        return float(loss.detach())

    return step


def score_peer(model: POYO, session: Session, config: Config) -> float:
    """Test R2, as `real_small.score_model` measures it."""
    source, length = labelled(session, "test"), config.model.window_length
    stitcher = SessionStitcher(source, length, None, equal_weights)
    model.eval()
    for start in window_starts(source, length, OVERLAP).tolist():
        batch = collate_windows(model, [cut_window(source, start, length)])
        with torch.inference_mode():
            outputs = model(**{name: part for name, part in batch.items() if name not in OF_LOSS})
        stitcher.add(start, outputs[0].numpy())
    everything = slice(0, source.behaviour(source.outputs[0]).count)
    scores = score_outputs([stitcher.finish([everything])], [source])
    return float(next(iter(mean_scores(scores, source.model).values())))
