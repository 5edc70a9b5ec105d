"""Make the golden checkpoint of the present format: python
tests/golden_checkpoints/make_checkpoint.py FOLDER
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]
import tiny  # noqa: E402

from poyo_jax import Session, decode, load, train_model  # noqa: E402


def session() -> Session:
    """The first ten seconds of a simulated session, kept as arrays, as the simulator may change."""
    with np.load(HERE / "session.npz") as arrays:
        return Session.from_arrays(**dict(arrays), session_id="golden")


def make(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as workdir:
        settings = tiny.config(num_steps=50)
        settings = replace(
            settings, model=replace(settings.model, dim=8, head_dim=8, num_latents=2)
        )
        train_model(settings, [session()], workdir, progress=False)
        load(workdir).save(folder)
    for path in folder.rglob(
        "commit_success.txt"
    ):  # which says where the folder was written; buckets alone need it
        path.unlink()
    values = decode(load(folder), session(), split="all", stitch="mean").values
    np.savez(folder / "predictions.npz", values=values)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
