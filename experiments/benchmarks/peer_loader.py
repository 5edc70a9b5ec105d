"""The input pipeline of torch_brain alone.

Data set, transforms, tokeniser, sampler and collate function run in a DataLoader.

Runs in the environment of the peer; see peer.py.
"""

import itertools
import time

import numpy as np
import torch
from torch_brain.batching import collate, pad8, track_mask8
from torch_brain.datasets import Dataset
from torch_brain.datasets.mixins import SpikingDatasetMixin
from torch_brain.models import POYO
from torch_brain.samplers import RandomFixedWindowSampler
from torch_brain.transforms import Compose, UnitDropout

from experiments.benchmarks.server import timed

TURN = 10  # batches of a call
AHEAD = 2  # batches that each worker may have made between two calls


class Sessions(SpikingDatasetMixin, Dataset):
    """The sessions of a folder; the name of a unit contains its session."""

    spiking_dataset_mixin_uniquify_unit_ids = True

    def get_sampling_intervals(self):
        return {name: self.get_recording(name).train_domain for name in self.recording_ids}


class Tokenize:
    """A window as POYO takes it, with its targets normalised as those of our pipeline."""

    def __init__(self, model: POYO):
        self._model = model

    def __call__(self, data) -> dict:
        times, targets = data.cursor.timestamps, data.cursor.vel
        targets = (targets - targets.mean(axis=0)) / (targets.std(axis=0) + 1e-6)
        return self._model.tokenize(data) | {
            "output_timestamps": pad8(times.astype(np.float32)),
            "output_mask": track_mask8(times),
            "target": pad8(targets.astype(np.float32)),
            "weights": pad8(np.ones(len(times), np.float32)),
        }


def make_loader(settings: dict):
    """Return a call that takes TURN batches, and its facts."""
    torch.set_num_threads(1)
    sessions = Sessions(settings["folder"])
    model = POYO(sequence_length=1.0, latent_step=0.125, num_latents_per_step=16, dim=64, dim_out=2)
    model.init_vocabs(sessions)
    sessions.transform = Compose([UnitDropout(**settings["unit_dropout"]), Tokenize(model)])
    sampler = RandomFixedWindowSampler(
        sampling_intervals=sessions.get_sampling_intervals(), window_length=1.0
    )
    workers = settings["workers"]
    loader = torch.utils.data.DataLoader(
        sessions,
        settings["batch_size"],
        sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))

    def take(count: int) -> None:
        for _ in range(count):
            next(batches)

    def call(number: int) -> dict:
        take(AHEAD * workers)
        answer = timed(lambda number: take(TURN))(number)
        time.sleep(
            bool(workers)
        )  # until the workers are ahead again, not to disturb the next contender
        return answer

    mask = next(batches)["input_mask"]
    facts = {
        "windows": TURN * settings["batch_size"],
        "tokens": TURN * float(mask.sum()),
        "padding": 1 - float(mask.float().mean()),
    }
    return call, facts
