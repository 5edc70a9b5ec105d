"""Targets that are checkpoints: saved models and runs, by the bytes of their files and by field."""

import json
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
from etils import epath

from experiments.tools.fuzz.mutate import Rng, mutated_bytes, mutated_json
from experiments.tools.fuzz.target import Target, need
from experiments.tools.fuzz.torch_files import check_model, remember_shapes, same_tree, tiny_model
from poyo_jax import load
from poyo_jax.checkpoint import store
from poyo_jax.checkpoint.digest import digest_of_values
from poyo_jax.checkpoint.files import list_files
from poyo_jax.checkpoint.metadata import Metadata
from poyo_jax.checkpoint.run import Checkpoints, metadata_to_continue
from poyo_jax.checkpoint.store import find_step, read_step
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.train.optim.choose import choose_optimizer
from poyo_jax.train.state import TrainState, init_state

STEP = 7
IGNORED = ("commit_success.txt", "_CHECKPOINT_METADATA")  # Orbax reads nothing of them
STRANGE_NAMES = ("²", "07", "-7", "7 ", "7.orbax-checkpoint-tmp-0", "seven", "9" * 30, "8")


class _Checkpoint(Target):
    """A folder with the checkpoint of one step; a mutation changes a copy."""

    def warm_up(self) -> None:
        remember_shapes(store)
        self.original, self.damaged = self.folder / "original", self.folder / "damaged"
        shutil.rmtree(self.damaged, ignore_errors=True)
        shutil.copytree(self.original, self.damaged)
        self.step = self.damaged / "checkpoints" / str(STEP)
        files = sorted(path for path in self.step.rglob("*") if path.is_file())
        self.files = [path for path in files if path.name not in IGNORED]
        self.rewritten: list[Path] = []

    def restore(self) -> None:
        """Make the copy equal to the original again."""
        for path in self.rewritten:
            shutil.copyfile(self.original / path.relative_to(self.damaged), path)
        if not self.rewritten:
            shutil.rmtree(self.damaged / "checkpoints")
            shutil.copytree(self.original / "checkpoints", self.damaged / "checkpoints")
        self.rewritten = []

    def rewrite(self, path: Path, content: bytes) -> None:
        self.rewritten.append(path)
        path.write_bytes(content)

    def change_bytes(self, rng: Rng) -> None:
        """Damage a file, remove it, or put a file or folder in the wrong place."""
        path = self.files[rng.integers(len(self.files))]
        change = rng.integers(40)
        if change == 0:
            path.unlink()
        elif change == 1:
            shutil.copyfile(self.files[rng.integers(len(self.files))], self.step / "other")
            (self.step / "other").rename(path)
        elif change == 2:
            name = STRANGE_NAMES[rng.integers(len(STRANGE_NAMES))]
            self.step.rename(self.step.with_name(name))
        elif change == 3:
            shutil.rmtree(path.parent)
        else:
            self.rewrite(path, mutated_bytes(path.read_bytes(), rng))

    def change_field(self, rng: Rng) -> tuple[dict, bool]:
        """Change a value of the metadata; half of the time the digests are made to suit."""
        path = self.step / "meta" / "metadata"
        values = mutated_json(json.loads(path.read_text()), rng)
        sealed = bool(rng.random() < 0.5)
        if sealed:
            values.pop("digest", None)
            values["digest"] = digest_of_values(values)
        self.rewrite(path, json.dumps(values).encode())
        if sealed:
            self.rewritten.append(self.step / "files.json")
            list_files(epath.Path(self.step))
        return values, sealed


# --- saved models


class ModelBytes(_Checkpoint):
    """Files of a saved model."""

    name = "model_bytes"

    def make(self) -> None:
        model = replace(tiny_model(), step=STEP, metrics={"valid_r2": 0.5})
        model.save(self.folder / "original")

    def warm_up(self) -> None:
        super().warm_up()
        self.expected = load(self.damaged)

    def attempt(self, number: int) -> None:
        try:
            self.change_bytes(self.rng(number))
            model = load(self.damaged)
            need(model.metadata == self.expected.metadata, "the metadata differ")
            need(same_tree(model.params, self.expected.params), "the parameters differ")
        finally:
            self.restore()


class ModelFields(ModelBytes):
    """Values of the metadata of a saved model."""

    name = "model_fields"

    def attempt(self, number: int) -> None:
        try:
            values, sealed = self.change_field(self.rng(number))
            metadata = read_step(find_step(self.damaged, None)).metadata
            _check_metadata(metadata, self.expected.metadata, values if sealed else None)
            if sealed and not _same_sizes(metadata, self.expected.metadata):
                check_model(load(self.damaged))
        finally:
            self.restore()


def _same_sizes(metadata: Metadata, expected: Metadata) -> bool:
    """Tell if the metadata have the sizes of the parameters; else the parameters are read, too."""
    names = (metadata.units, metadata.sessions, metadata.config.model)
    return names == (expected.units, expected.sessions, expected.config.model)


def _check_metadata(metadata: Metadata, expected: Metadata, values: dict | None) -> None:
    """Compare metadata with the original's, or with `values` whose digests were made to suit."""
    if values is None:
        need(metadata == expected, "the metadata differ, and their digest does not")
        return
    _check_kinds(metadata.config, expected.config)
    need(_agree(values["units"], list(metadata.units.names)), "the units differ from the file's")
    kinds = {type(name) for name in (*metadata.units.names, *metadata.sessions.names)}
    need(kinds <= {str}, f"names are of the types {kinds}")
    rank = metadata.rank
    need(rank is None or type(rank) in (int, float), f"the rank is {rank!r}")
    for name in ("config", "readouts", "metrics"):
        need(_agree(values[name], metadata.to_dict()[name]), f"{name} differ from the file's")


def _check_kinds(config: Any, expected: Any) -> None:
    """Raise OtherValue if a field of a configuration is of another type than before."""
    for item in fields(config):
        value, before = getattr(config, item.name), getattr(expected, item.name)
        if is_dataclass(before) and is_dataclass(value):
            _check_kinds(value, before)
            continue
        allowed = {float: (float, int), type(None): (object,)}.get(type(before), (type(before),))
        sound = value is None or isinstance(value, allowed)
        sound = sound and (isinstance(value, bool) == isinstance(before, bool) or before is None)
        need(sound, f"{item.name} is {value!r}, and was {before!r}")


def _agree(stored: Any, read: Any) -> bool:
    """Tell if a value that was read is the one in the file; fields may have been added."""
    if isinstance(read, tuple):
        read = list(read)
    if isinstance(stored, dict) and isinstance(read, dict):
        return all(name in read and _agree(value, read[name]) for name, value in stored.items())
    if isinstance(stored, list) and isinstance(read, list):
        return len(stored) == len(read) and all(map(_agree, stored, read))
    return stored == read or (stored != stored and read != read)


# --- runs


class RunBytes(_Checkpoint):
    """Files of a run, from which it would continue."""

    name = "run_bytes"

    def make(self) -> None:
        metadata, state, _ = _run()
        checkpoints = Checkpoints(self.folder / "original", keep=3)
        checkpoints.save(state._replace(step=state.step + STEP), metadata)
        checkpoints.close()

    def warm_up(self) -> None:
        super().warm_up()
        self.metadata, self.state, self.mesh = _run()
        self.checkpoints = Checkpoints(self.damaged, keep=3)
        self.like = jax.eval_shape(lambda: self.state)
        self.expected = self._continued()

    def _continued(self) -> TrainState:
        return self.checkpoints.restore(STEP, self.like, self.mesh)

    def attempt(self, number: int) -> None:
        try:
            self.change_bytes(self.rng(number))
            metadata = metadata_to_continue(self.damaged)
            if metadata is None:
                return  # the folder has no step any more: a new run begins
            need(metadata == self.metadata, "the metadata differ")
            need(same_tree(self._continued(), self.expected), "the state differs")
        finally:
            self.restore()


class RunFields(RunBytes):
    """Values of the metadata of a run."""

    name = "run_fields"

    def attempt(self, number: int) -> None:
        try:
            values, sealed = self.change_field(self.rng(number))
            metadata = metadata_to_continue(self.damaged)
            need(metadata is not None, "the step is not seen")
            assert metadata is not None
            _check_metadata(metadata, self.metadata, values if sealed else None)
            metadata.differences(self.metadata)
        finally:
            self.restore()


def _run() -> tuple[Metadata, TrainState, jax.sharding.Mesh]:
    """Metadata and state of a run that has not begun, and its mesh."""
    model = replace(tiny_model(), metrics={"valid_r2": 0.5})
    mesh = make_mesh(model.config.run.mesh)
    rule = choose_optimizer(model.config.optim, mesh)
    return model.metadata, init_state(model.model, rule, 0, mesh), mesh
