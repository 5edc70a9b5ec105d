"""The peer of the benchmark: POYO of torch_brain with its SparseLamb, in an environment of its own.

Started by speed.py with the settings as JSON on the command line. tests/golden/README.md explains
how to make the environment.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch_brain.batching import collate, pad8
from torch_brain.models import POYO

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
from make_golden import load_sparse_lamb, weighted_mse

from experiments.benchmarks.draw import (
    SPIKES,
    UNITS,
    SimulatedWindow,
    draw_window,
    draw_windows,
    session_units,
)
from experiments.benchmarks.server import seconds, serve, timed, timed_windows

TURN = 25  # windows of a call of `--what window`
OF_LOSS = ("target", "weights")


def main() -> None:
    settings = json.loads(sys.argv[1])
    if settings["what"] == "pipeline":
        from experiments.benchmarks.peer_loader import make_loader

        return serve(*make_loader(settings))
    if settings["what"] == "window":
        return serve(*make_decoder(settings))
    model = make_model(settings["model"], session_units().tolist())
    batches = [make_batch(model, settings, seed) for seed in range(settings["num_batches"])]
    call = make_call(model, settings)
    facts = batch_facts(batches) | {"first_run_s": seconds(call, batches[0])}
    serve(timed(lambda number: call(batches[number % len(batches)])), facts)


def batch_facts(batches: list[dict[str, torch.Tensor]]) -> dict:
    """Describe the content of an average batch."""
    masks = [batch["input_mask"] for batch in batches]
    tokens = sum(float(mask.sum()) for mask in masks) / len(masks)
    spikes = sum(
        float((batch["input_mask"] & (batch["input_token_type"] == 0)).sum()) for batch in batches
    )
    padding = 1 - sum(float(mask.float().mean()) for mask in masks) / len(masks)
    return {
        "windows": len(masks[0]),
        "tokens": tokens,
        "spikes": spikes / len(batches),
        "padding": padding,
    }


def make_decoder(settings: dict):
    """Return a call that decodes TURN windows one by one, numpy in and numpy out, and its facts."""
    model = make_model(settings["model"], [UNITS]).eval()
    windows = [collate_windows(model, [draw_window(number)]) for number in range(TURN)]
    windows = [
        {key: np.asarray(window[key]) for key in window if key not in OF_LOSS} for window in windows
    ]

    @torch.inference_mode()
    def decode(window: dict[str, np.ndarray]) -> None:
        model(**{key: torch.from_numpy(value) for key, value in window.items()}).numpy()

    decode(windows[0])
    return timed_windows(decode, windows), {
        "windows": 1,
        "tokens": SPIKES + 2 * UNITS,
        "spikes": SPIKES,
    }


def make_model(config: dict, units: list[int]) -> POYO:
    model = POYO(
        sequence_length=config["window_length"],
        latent_step=config["latent_step"],
        dim=config["dim"],
        num_latents_per_step=config["num_latents"],
        depth=config["depth"],
        dim_head=config["head_dim"],
        cross_heads=config["cross_heads"],
        self_heads=config["self_heads"],
        dim_out=config["num_channels"],
        ffn_dropout=config["feedforward_dropout"],
        lin_dropout=config["residual_dropout"],
        atn_dropout=config["attention_dropout"],
    )
    model.unit_emb.initialize_vocab(
        [f"s{s}/u{u}" for s, count in enumerate(units) for u in range(count)]
    )
    model.session_emb.initialize_vocab([f"s{s}" for s in range(len(units))])
    return model


def make_batch(model: POYO, settings: dict, seed: int) -> dict[str, torch.Tensor]:
    return collate_windows(
        model, draw_windows(settings["batch_size"], seed, settings["fixed_tokens"])
    )


def collate_windows(model: POYO, windows: list[SimulatedWindow]) -> dict[str, torch.Tensor]:
    samples = []
    for window in windows:
        data = types.SimpleNamespace(
            units=types.SimpleNamespace(
                id=[f"s{window.session}/u{unit}" for unit in range(window.num_units)]
            ),
            spikes=types.SimpleNamespace(
                unit_index=window.spike_units, timestamps=window.spike_times
            ),
            session=types.SimpleNamespace(id=f"s{window.session}"),
        )
        queries = {
            "output_timestamps": window.query_times,
            "target": window.targets,
            "weights": torch.ones(len(window.targets)).numpy(),
            "output_mask": torch.ones(len(window.targets), dtype=torch.bool).numpy(),
        }
        samples.append(model.tokenize(data) | {key: pad8(value) for key, value in queries.items()})
    return collate(samples)


def make_call(model: POYO, settings: dict):
    tables = [model.unit_emb.weight, model.session_emb.weight]
    others = [
        tensor for tensor in model.parameters() if all(tensor is not table for table in tables)
    ]
    groups = [{"params": tables, "sparse": True}, {"params": others}]
    optimizer = load_sparse_lamb(Path(settings["sparse_lamb"]))(groups, lr=0.004, weight_decay=1e-4)

    def predict(batch):
        return model(**{key: value for key, value in batch.items() if key not in OF_LOSS})

    def train(batch):
        model.train()
        optimizer.zero_grad()
        weighted_mse(predict(batch), batch).backward()
        optimizer.step()

    @torch.inference_mode()
    def infer(batch):
        model.eval()
        predict(batch).numpy()

    return train if settings["what"] == "train" else infer


if __name__ == "__main__":
    main()
