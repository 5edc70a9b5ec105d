"""The peer of the conversion tests: torch_brain in an interpreter of its own (POYO_TORCH_PYTHON).

    torch_peer.py make SESSION.h5 NAME MODEL.ckpt SETTINGS    write a random model, as Lightning
    lays it out torch_peer.py predict SESSION.h5 NAME MODEL.ckpt OUT.npz VALUE_KEY    decode the
    whole session

How to make the environment: tests/golden/README.md.
"""

import json
import pickle
import sys
import types

import h5py
import numpy as np
import torch
from torch_brain.batching import collate, pad8
from torch_brain.data import Data
from torch_brain.models import POYO
from torch_brain.samplers import SequentialFixedWindowSampler
from torch_brain.utils.stitcher import stitch


def make(path: str, name: str, checkpoint: str, settings: str) -> None:
    """A model off its initial point, with all that Lightning keeps beside it, and names of numpy's
    string type.
    """
    settings = json.loads(settings)
    torch.manual_seed(0)
    model = POYO(**settings, dim_out=2)
    with h5py.File(path) as file:
        model.unit_emb.initialize_vocab(list(unit_names(Data.from_hdf5(file, lazy=False), name)))
    model.session_emb.initialize_vocab(list(np.array([name])))
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
        for table in (model.unit_emb, model.session_emb):
            table.weight[0] = 0
    optimizer = torch.optim.AdamW(model.parameters())
    sum(tensor.sum() for tensor in model.parameters()).backward()
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=10)
    torch.save(
        {
            "epoch": 3,
            "global_step": 17,
            "pytorch-lightning_version": "2.5.0",
            "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()},
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [schedule.state_dict()],
            "callbacks": {
                "ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "best": np.float64(0.5)}
            },
            "hyper_parameters": {
                "model": {"_target_": "torch_brain.models.POYO", **settings},
                "epochs": 1000,
            },
        },
        checkpoint,
    )


def predict(path: str, name: str, checkpoint: str, out: str, value_key: str) -> None:
    """Times (s of session time) and stitched predictions, in normalised units; whether the file
    opens without trust.
    """
    model = POYO.load_pretrained(checkpoint).eval()
    with h5py.File(path) as file:
        data = Data.from_hdf5(file, lazy=False)
    sampler = SequentialFixedWindowSampler(
        sampling_intervals={name: data.domain},
        window_length=model.sequence_length,
        step=model.sequence_length / 2,
    )
    windows = [(index.start, index.end) for index in sampler]
    times, values = [], []
    for first in range(0, len(windows), 32):
        samples = [
            tokens(model, data, name, value_key, *window) for window in windows[first : first + 32]
        ]
        batch = collate(samples)
        starts = batch.pop("start")
        with torch.inference_mode():
            predictions = model(**batch)
        mask = batch["output_mask"]
        times.append((starts[:, None] + batch["output_timestamps"].double())[mask])
        values.append(predictions[mask])
    rounded = torch.round(
        torch.cat(times), decimals=4
    )  # windows round the time of a sample differently
    times, values = stitch(rounded, torch.cat(values))
    np.savez(
        out,
        times=times.numpy(),
        values=values.numpy(),
        opens_without_trust=opens_without_trust(checkpoint),
    )


def opens_without_trust(checkpoint: str) -> bool:
    try:
        torch.load(checkpoint, weights_only=True)
    except pickle.UnpicklingError:
        return False
    return True


def tokens(model: POYO, data: Data, name: str, value_key: str, start: float, end: float) -> dict:
    window = data.slice(start, end)
    queries = getattr(window, value_key.partition(".")[0]).timestamps
    named = types.SimpleNamespace(
        units=types.SimpleNamespace(id=unit_names(window, name)),
        spikes=window.spikes,
        session=types.SimpleNamespace(id=name),
    )
    return model.tokenize(named) | {
        "output_timestamps": pad8(queries.astype(np.float32)),
        "output_mask": pad8(np.ones(len(queries), dtype=bool)),
        "start": start,
    }


def unit_names(data: Data, name: str) -> np.ndarray:
    return np.char.add(f"{name}/", data.units.id.astype(str))


if __name__ == "__main__":
    {"make": make, "predict": predict}[sys.argv[1]](*sys.argv[2:])
