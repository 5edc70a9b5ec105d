"""Damage to any file of a checkpoint is noticed, on load and on resume."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from etils import epath

from poyo_jax import load, train_model
from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.files import check_files, list_files
from poyo_jax.checkpoint.run import Checkpoints
from poyo_jax.checkpoint.store import readable, write_model
from poyo_jax.errors import CheckpointError
from poyo_jax.train.setup import TrainSetup


@pytest.fixture(scope="module")
def setup(tiny_sessions) -> TrainSetup:
    return TrainSetup(tiny.config(), tiny_sessions[:2], {})


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """A copy of a run with its two last checkpoints."""
    for step in ("100", "150"):
        shutil.copytree(tiny_run / "checkpoints" / step, tmp_path / "checkpoints" / step)
    shutil.copy(tiny_run / "config.json", tmp_path)
    return tmp_path


def restored(workdir: Path, setup: TrainSetup):
    checkpoints = Checkpoints(workdir, 10)
    try:
        return checkpoints.restore(150, jax.eval_shape(setup.fresh_state), setup.mesh)
    finally:
        checkpoints.close()


def flips(path: Path, count: int, rng: np.random.Generator):
    """Flip one random bit of a file at a time, and mend it afterwards."""
    content = path.read_bytes()
    for _ in range(count if content else 0):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        yield
    path.write_bytes(content)


def test_a_flipped_bit_in_any_file_of_a_state_is_noticed(run, setup):
    rng = np.random.default_rng(0)
    folder = run / "checkpoints" / "150"
    files = [path for path in sorted(folder.rglob("*")) if len(path.relative_to(folder).parts) > 1]
    files = [path for path in files if path.is_file() and path.name != "commit_success.txt"]
    assert {path.relative_to(folder).parts[0] for path in files} == {"params", "opt_state", "meta"}
    for path in [*files, folder / "files.json"]:
        for _ in flips(path, 3, rng):
            with pytest.raises(CheckpointError, match="checkpoints/150 is damaged"):
                restored(run, setup)


def test_a_file_that_the_list_names_otherwise_is_noticed(run):
    """A flipped bit in the name of an item: its files would be checked no more."""
    folder = epath.Path(run / "checkpoints" / "150")
    path = Path(folder / "files.json")
    content = path.read_text()
    for name in re.findall(r'"((?:params|opt_state|meta)/.*)":', content):
        first = name[0]
        path.write_text(content.replace(f'"{name}"', f'"{chr(ord(first) ^ 1)}{name[1:]}"'))
        with pytest.raises(ValueError, match=r"not in its list of files|has none of meta"):
            for item in ("params", "opt_state", "meta"):
                check_files(folder, item)


def test_a_flipped_bit_in_the_parameters_is_noticed(run):
    rng = np.random.default_rng(1)
    for path in sorted((run / "checkpoints" / "150" / "params").rglob("*")):
        if path.is_file() and path.name != "commit_success.txt":
            for _ in flips(path, 3, rng):
                with pytest.raises(CheckpointError, match="checkpoints/150 is damaged"):
                    load(run, step=150)


def test_numbers_that_changed_are_noticed_by_their_values(run, setup):
    """Also where the files are those listed."""
    folder = run / "checkpoints" / "150"
    for item in ("params", "opt_state"):
        good = shutil.copytree(folder / item, run / item)
        shutil.rmtree(folder / item)
        shutil.copytree(run / "checkpoints" / "100" / item, folder / item)
        list_files(epath.Path(folder))
        with pytest.raises(CheckpointError, match=f"its {item} are not those that were saved"):
            restored(run, setup)
        shutil.rmtree(folder / item)
        shutil.copytree(good, folder / item)


def test_a_list_of_files_is_needed(run):
    (run / "checkpoints" / "150" / "files.json").unlink()
    with pytest.raises(CheckpointError, match="checkpoints/150 is damaged"):
        load(run, step=150)


def test_a_run_does_not_continue_from_damage(run, tiny_sessions):
    """The step before is offered, and taken when the damaged folder is gone."""
    sessions, config = tiny_sessions[:2], tiny.config(num_steps=151)
    files = (run / "checkpoints" / "150" / "opt_state").rglob("*")
    largest = max((f for f in files if f.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 16
    largest.write_bytes(content)
    with pytest.raises(
        CheckpointError,
        match=r"checkpoints/150 is damaged .*Step 100 is whole: load it with step=100, or delete"
        r" the folder 150 to continue the run from step 100.",
    ):
        train_model(config, sessions, run, progress=False)
    shutil.rmtree(run / "checkpoints" / "150")
    assert train_model(replace(config, run=replace(config.run, num_steps=101)), sessions, run).step


CHANGES = {
    "units": lambda meta: meta["units"].reverse(),
    "sessions": lambda meta: meta["sessions"].reverse(),
    "readout": lambda meta: meta["readouts"]["simulated/session_0"]["std"].reverse(),
    "window length": lambda meta: meta["config"]["model"].update(window_length=2.0),
    "score": lambda meta: meta["metrics"].update(valid_r2=1.0),
    "tuning map": lambda meta: meta["tuning"]["origin"].reverse(),
    "no tuning map": lambda meta: meta.update(tuning=None),
    "step": lambda meta: meta.update(step=100),
    "digest of the parameters": lambda meta: meta["arrays"].pop("params"),
    "no digest": lambda meta: meta.update(digest=None),
    "digest left out": lambda meta: meta.pop("digest"),
    "older format": lambda meta: meta.update(format_version=2, digest=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_metadata_are_noticed(change, run, setup):
    path = run / "checkpoints" / "150" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    CHANGES[change](meta)
    path.write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match=r"150 is damaged .*Step 100 is whole"):
        load(run)
    with pytest.raises(CheckpointError, match=r"150 is damaged .*Step 100 is whole"):
        restored(run, setup)


WRONG = {
    "settings": lambda meta: meta["config"].update(run=5),
    "configuration": lambda meta: meta.update(config=5),
    "no readout": lambda meta: meta["readouts"].popitem(),
    "readouts": lambda meta: meta.update(readouts=[]),
    "score": lambda meta: meta["metrics"].update(valid_r2="high"),
    "metrics": lambda meta: meta.update(metrics=[1]),
    "unit": lambda meta: meta["units"].insert(0, 5),
    "units as text": lambda meta: meta.update(units="ab"),
    "units as a mapping": lambda meta: meta.update(units={"a": 1}),
    "nested tuning map": lambda meta: meta["tuning"].update(mean=[meta["tuning"]["mean"]]),
    "tuning map of text": lambda meta: meta["tuning"].update(origin=["x"]),
    "fit": lambda meta: meta.update(fit=3),
    "arrays": lambda meta: meta.update(arrays=[]),
    "step": lambda meta: meta.update(step="150"),
}


@pytest.mark.parametrize("change", WRONG)
def test_values_of_the_wrong_type_are_a_sentence(change, run):
    """Also where digest and list of files are those of the values."""
    folder = run / "checkpoints" / "150"
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    WRONG[change](meta)
    del meta["digest"]
    path.write_text(json.dumps(meta | {"digest": digest_of_values(meta)}))
    list_files(epath.Path(folder))
    with pytest.raises(CheckpointError, match=r"150 is damaged .*Step 100 is whole"):
        load(run, step=150)


def test_folders_of_other_names_are_no_steps(run, setup):
    for name in ("²", "٣", "007", "-1", "1e3", "old"):
        (run / "checkpoints" / name).mkdir()
    assert load(run).step
    assert int(restored(run, setup).step) == 150


def test_a_step_is_only_offered_if_it_is_whole(run):
    """Its optimiser state, too: a run continues from it."""
    for step in ("100", "150"):
        (run / "checkpoints" / step / "opt_state" / "_METADATA").write_text("{")
    with (
        pytest.raises(CheckpointError, match=r"No other step here is whole"),
        readable(epath.Path(run / "checkpoints" / "150")),
    ):
        raise ValueError


def test_a_folder_with_another_name_is_noticed(run):
    (run / "checkpoints" / "150").rename(run / "checkpoints" / "160")
    with pytest.raises(CheckpointError, match="it is step 150 in a folder of another name"):
        load(run, step=160)


def test_a_run_of_format_2_is_not_continued(tiny_sessions, tmp_path):
    golden = Path(__file__).parent.parent / "golden_checkpoints" / "v2"
    shutil.copytree(golden / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(
        CheckpointError,
        match=r"was saved in format 2, whose optimiser state .* Start a new run in another work"
        r" directory from its weights: --init-from .*, or init_from=",
    ):
        train_model(tiny.config(), tiny_sessions[:1], tmp_path, progress=False)
    assert load(tmp_path).step == 50


def test_a_processor_that_has_not_been_imported_is_no_damage(tiny_run, tmp_path):
    pretrained = load(tiny_run)
    model = replace(pretrained.config.model, processor="stranger:Net")
    changed = replace(pretrained, config=replace(pretrained.config, model=model))
    write_model(tmp_path, 150, changed.metadata, pretrained.params)
    with pytest.raises(CheckpointError, match=r"cannot be used: .*stranger has not been imported"):
        load(tmp_path)
