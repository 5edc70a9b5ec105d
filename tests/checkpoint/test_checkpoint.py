"""Checkpoints: which stay, what travels with them, on which devices they load, and what happens
when a disk fails.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poyo_jax import Readout, load
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.run import Checkpoints, take_back
from poyo_jax.checkpoint.store import find_step, read_step, saved_steps
from poyo_jax.config import Config
from poyo_jax.data.vocab import Vocab
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import CheckpointError
from poyo_jax.train.state import TrainState
from poyo_jax.train.writers import read_metrics

REPOSITORY = Path(__file__).resolve().parent.parent.parent
READOUT = Readout(
    value_key="hand.vel",
    mean=(0.5, -1.0),
    std=(2.0, 3.0),
    interval_weights=(("trials", 0.1),),
    eval_interval="trials",
)
METADATA = Metadata(Config(), Vocab(["s/a", "s/b"]), Vocab(["s"]), {"s": READOUT})


def state(step: int) -> TrainState:
    """A small state whose numbers tell its step."""
    params, mean = (
        {"table": jnp.full((300, 40), float(step)), "bias": jnp.arange(4.0)} for _ in range(2)
    )
    return TrainState(
        jnp.asarray(step, jnp.int32), params, ({"mean": mean}, jnp.asarray(step + 1, jnp.int32))
    )


def save(workdir: Path, scores: dict[int, float | None], keep: int = 2) -> None:
    checkpoints = Checkpoints(workdir, keep)
    for step, score in scores.items():
        checkpoints.save(
            state(step), replace(METADATA, metrics={} if score is None else {"valid_r2": score})
        )
    checkpoints.close()


def test_the_newest_and_the_best_are_kept(tmp_path):
    save(tmp_path, {10: 0.1, 20: 0.5, 30: 0.4, 40: None, 50: 0.2})
    assert saved_steps(tmp_path) == [20, 40, 50]
    assert find_step(tmp_path, None).name == "20"


def test_some_are_kept_for_good(tmp_path):
    checkpoints = Checkpoints(tmp_path, 1, keep_every=20)
    for step in range(10, 80, 10):
        checkpoints.save(state(step), METADATA)
    checkpoints.close()
    assert saved_steps(tmp_path) == [20, 40, 60, 70]


def test_the_best_is_kept_after_a_restart(tmp_path):
    save(tmp_path, {10: 0.1, 20: 0.5, 30: 0.4})
    save(tmp_path, {40: None, 50: 0.2, 60: 0.3})
    assert saved_steps(tmp_path) == [20, 50, 60]
    save(tmp_path, {70: 0.5, 80: None, 90: None, 100: None})
    assert saved_steps(tmp_path) == [70, 90, 100]  # of equal scores, that of the latest step counts


def test_without_scores_the_last_is_loaded(tmp_path):
    save(tmp_path, {10: None, 20: None, 30: None}, keep=1)
    assert saved_steps(tmp_path) == [30]
    assert find_step(tmp_path, None).name == "30"


def test_a_step_is_taken_away_at_once(tmp_path, monkeypatch):
    """Killed while the files of an old step are being deleted, a run has only whole checkpoints."""
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        killed.setattr(os, "unlink", lambda *args, **kwargs: None)
        save(tmp_path, {10: None, 20: None, 30: None})
    assert saved_steps(tmp_path) == [20, 30]
    assert (tmp_path / "checkpoints" / "deleted" / "10" / "params").is_dir()
    Checkpoints(tmp_path, 2).close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["20", "30"]


def test_no_folder_is_emptied_that_a_save_still_moves_steps_to(tmp_path, monkeypatch):
    checkpoints, saving, rmtree = Checkpoints(tmp_path, 1), [], shutil.rmtree

    def watched(path, *args, **kwargs):
        if Path(path).name == "deleted":
            saving.append(checkpoints._manager.is_saving_in_progress())
        rmtree(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", watched)
    for step in (10, 20, 30, 40):
        checkpoints.save(state(step), METADATA)
    checkpoints.close()
    assert saving and not any(saving)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["40"]


def test_parameters_optimiser_state_and_metadata_are_separate(tmp_path):
    save(tmp_path, {10: 0.25})
    folder = tmp_path / "checkpoints" / "10"
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "params",
        "opt_state",
        "meta",
    }
    metadata = read_step(find_step(tmp_path, 10)).metadata
    assert (metadata.config, metadata.units, metadata.sessions) == (
        Config(),
        METADATA.units,
        METADATA.sessions,
    )
    assert metadata.readouts == {"s": READOUT}
    assert metadata.metrics == {"valid_r2": 0.25}


def test_a_restored_state_is_the_saved_one(tmp_path):
    save(tmp_path, {10: None})
    checkpoints = Checkpoints(tmp_path, 1)
    restored = checkpoints.restore(10, jax.eval_shape(lambda: state(10)), make_mesh())
    checkpoints.close()
    for saved, found in zip(jax.tree.leaves(state(10)), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(saved, found)
        assert found.sharding.mesh.axis_names == ("data", "fsdp")


def test_what_is_donated_after_saving_is_saved_as_it_was(tmp_path):
    """The next training step overwrites the buffers while the checkpoint is still being written."""
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0)
    checkpoints, current = Checkpoints(tmp_path, 1), state(10)
    checkpoints.save(current, METADATA)
    for _ in range(5):
        current = overwrite(current)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, 1)
    restored = checkpoints.restore(10, jax.eval_shape(lambda: state(10)), make_mesh())
    checkpoints.close()
    assert np.all(restored.params["table"] == 10.0)


# --- damage


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint in .*checkpoints. Give the folder of a run"
    ):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint in .*missing/checkpoints"):
        load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"a.h5 is a session file, not a model. Give the mod"):
        load(tmp_path / "a.h5")


def test_a_step_that_is_not_there(tiny_run):
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of step 7 in .*; there are \[50, 100, 150\]"
    ):
        load(tiny_run, step=7)


@pytest.mark.parametrize(
    "name",
    ["meta/metadata", "params/_METADATA", "params/manifest.ocdbt", "params/ocdbt.process_0/d"],
)
@pytest.mark.parametrize("damage", ["empty", "truncated"])
def test_a_damaged_checkpoint(name, damage, tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints" / "150", tmp_path / "checkpoints" / "150")
    path = tmp_path / "checkpoints" / "150" / name
    for file in [path] if path.is_file() else list(path.iterdir()):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(
        CheckpointError,
        match=r"checkpoints/150 is damaged .*No other step here is whole. Copy the folder again",
    ):
        load(tmp_path)


def test_a_newer_format(tiny_run, tmp_path):
    shutil.copytree(tiny_run / "checkpoints" / "150", tmp_path / "checkpoints" / "150")
    path = tmp_path / "checkpoints" / "150" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"format_version": 3', '"format_version": 9'))
    with pytest.raises(
        CheckpointError, match=r"format version 9, but this poyo_jax reads up to 3\. Update"
    ):
        load(tmp_path)


def test_unfinished_checkpoints_do_not_count(tiny_run, tmp_path):
    """What a killed process leaves behind has another name, and goes away when the run saves
    again.
    """
    shutil.copytree(tiny_run / "checkpoints" / "150", tmp_path / "checkpoints" / "150")
    partial = tmp_path / "checkpoints" / "160.orbax-checkpoint-tmp"
    shutil.copytree(tiny_run / "checkpoints" / "150" / "meta", partial / "meta")
    assert load(tmp_path).step == 150
    save(tmp_path, {170: None})
    assert not partial.exists()


@pytest.fixture
def small_disk():
    """A function that limits the size of files, as a full disk does; the limit goes at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 20_000])
def test_a_full_disk(room, tmp_path, small_disk):
    save(tmp_path, {10: None, 20: None})
    checkpoints, after = Checkpoints(tmp_path, 1), replace(METADATA, metrics={})
    noise = np.random.default_rng(0).normal(size=(300, 40))  # does not compress
    large = state(30)._replace(params={"table": jnp.asarray(noise)})
    small_disk(room)
    with pytest.raises(
        CheckpointError, match=r"cannot be written to .*checkpoints .*Check that the disk has space"
    ):
        checkpoints.save(large, after)
        checkpoints.close()
    small_disk(resource.RLIM_INFINITY)
    assert saved_steps(tmp_path) == [10, 20]
    assert read_step(find_step(tmp_path, None)).metadata.units == METADATA.units


@pytest.mark.parametrize("room", [0, 20_000])
def test_a_step_that_is_replaced_is_not_lost(room, tmp_path, small_disk):
    """Whatever ends the process between the old checkpoint of a step and the new one."""
    save(tmp_path, {10: None, 20: None})
    checkpoints, scored = Checkpoints(tmp_path, 2), replace(METADATA, metrics={"valid_r2": 0.5})
    noise = np.random.default_rng(0).normal(size=(300, 40))  # does not compress
    small_disk(room)
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoints.save(state(20)._replace(params={"table": noise}), scored, again=True)
    with contextlib.suppress(CheckpointError):
        checkpoints.close()
    small_disk(resource.RLIM_INFINITY)
    assert saved_steps(tmp_path) == [10]
    take_back(tmp_path)
    assert saved_steps(tmp_path) == [10, 20]
    checkpoints, like = Checkpoints(tmp_path, 2), jax.eval_shape(lambda: state(20))
    restored = checkpoints.restore(20, like, make_mesh())
    chex.assert_trees_all_equal(restored, state(20))
    checkpoints.save(state(20), scored, again=True)
    checkpoints.close()
    assert find_step(tmp_path, None).name == "20"
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["10", "20"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        CheckpointError, match=r"cannot be written to .*file/checkpoints .*that you may write there"
    ):
        Checkpoints(tmp_path / "file", 1)


# --- devices

FOUR_DEVICES = """
    import signal, sys
    import jax, numpy as np
    import tiny
    from poyo_jax import open_sessions, train_model
    from poyo_jax.errors import Interrupted
    from poyo_jax.train import loop
    from poyo_jax.train import setup
    from poyo_jax.checkpoint.run import Checkpoints, take_back

    data, workdir = sys.argv[1:]
    assert jax.device_count() == 4
    sessions = open_sessions(data)[:2]
    push, stop = loop.Run.push, 3

    def stopping(self, step, metrics):
        if step == stop:
            signal.raise_signal(signal.SIGINT)
        push(self, step, metrics)

    loop.Run.push = stopping
    for stop in (3, 7):  # from the first step on, then from a restored state
        try:
            train_model(tiny.config(log_every=1), sessions, workdir, progress=False)
        except Interrupted:
            pass
    here = setup.TrainSetup(tiny.config(), sessions, {})
    checkpoints = Checkpoints(workdir, 1000)
    state = checkpoints.restore(8, jax.eval_shape(here.fresh_state), here.mesh)
    checkpoints.close()
    assert all(len(x.sharding.device_set) == 4 for x in jax.tree.leaves(state))
    leaves = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(state.params)}
    np.savez(f"{workdir}/params.npz", **leaves)
"""


def test_what_four_devices_saved_loads_on_one(tiny_data, tmp_path):
    script = tmp_path / "four.py"
    script.write_text(textwrap.dedent(FOUR_DEVICES))
    paths = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    subprocess.run(
        [sys.executable, script, tiny_data, tmp_path / "run"],
        env={**os.environ, "PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    pretrained = load(tmp_path / "run")
    assert pretrained.step == 8
    with np.load(tmp_path / "run" / "params.npz") as saved:
        leaves = jax.tree_util.tree_leaves_with_path(pretrained.params)
        assert len(leaves) == len(saved.files)
        for path, leaf in leaves:
            assert len(leaf.devices()) == 1
            np.testing.assert_array_equal(leaf, saved[jax.tree_util.keystr(path)])
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {line["compiled_shapes"] for line in lines} == {1}
