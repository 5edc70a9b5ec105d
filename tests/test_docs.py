"""The Python of the documentation runs and prints what it says; Sphinx builds without a warning."""

import contextlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny
from doc_pages import DOCS, PAGES, REPOSITORY, blocks

import poyo_jax
from poyo_jax.baselines import BASELINES, NetworkSearch
from poyo_jax.finetune import STRATEGIES
from poyo_jax.presets import PRESETS

matplotlib.use("Agg")

CODE = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
SHORT = {"num_steps": 4, "eval_every": 2}


def arrays() -> dict:
    """A recording as its owner would have it: what `Session.from_arrays` takes, and the same as
    pynapple's objects.
    """
    import pynapple as nap

    session = tiny.simulate(3)
    velocity = session.behaviour("cursor.vel")
    spike_times, spike_units = np.array(session.spike_times), np.array(session.spike_units)
    target_times, targets = (
        velocity.times_at(np.arange(velocity.count)),
        velocity.values(0, velocity.count),
    )
    units = nap.TsGroup({unit: nap.Ts(spike_times[spike_units == unit]) for unit in range(12)})
    return {
        "spike_times": spike_times,
        "spike_units": spike_units,
        "unit_ids": [f"unit_{unit}" for unit in range(12)],
        "target_times": target_times,
        "targets": targets,
        "units": units,
        "velocity": nap.TsdFrame(t=target_times, d=targets, columns=["x", "y"]),
        "trials": nap.IntervalSet(np.arange(0, 60, 3), np.arange(2, 62, 3)),
    }


def write_other_formats(folder: Path) -> None:
    """Write a MATLAB file and a folder of Kilosort with the same recording."""
    import scipy.io

    recording = arrays()
    times, units = recording["spike_times"], recording["spike_units"]
    cells = np.empty((1, 12), object)
    cells[0] = [times[units == unit] for unit in range(12)]
    data = {"spikes": cells, "time": recording["target_times"], "velocity": recording["targets"]}
    scipy.io.savemat(folder / "monday.mat", {"data": data})
    (folder / "sorted").mkdir()
    np.save(folder / "sorted/spike_times.npy", np.round(times * 30_000).astype(np.int64))
    np.save(folder / "sorted/spike_clusters.npy", units)
    (folder / "sorted/params.py").write_text("sample_rate = 30000.\n")
    groups = ["cluster_id\tgroup", "0\tgood", "1\tnoise"]
    (folder / "sorted/cluster_group.tsv").write_text("\n".join(groups))


class FakeWandb(ModuleType):
    """Stands for the package wandb, which the tests do not install: it counts what is logged."""

    def __init__(self):
        super().__init__("wandb")
        self.num_logged = 0
        self.finished = False

    def init(self, project: str) -> "FakeWandb":
        return self

    def log(self, values: dict, step: int) -> None:
        assert all(isinstance(name, str) for name in values) and step > 0
        self.num_logged += 1

    def finish(self) -> None:
        assert self.num_logged > 0
        self.finished = True


@pytest.fixture
def prepared(tiny_run, tiny_data, tmp_path, monkeypatch):
    """A folder with a small model and its sessions, in which the presets are small, too, and fits
    are short.
    """
    from nwb_files import trial_table, write_nwb

    shutil.copytree(tiny_run, tmp_path / "runs" / "pretrain")
    monkeypatch.setattr("poyo_jax.presets.with_steps", lambda config, steps: config)
    shutil.copytree(tiny_data, tmp_path / "sessions")
    poyo_jax.save_torch(poyo_jax.load(tiny_run), tmp_path / "poyo_mp.ckpt")
    write_nwb(tmp_path / "monday.nwb", tables=trial_table())
    write_other_formats(tmp_path)
    for preset in ("poyo_single", "poyo_mp", "demo"):
        monkeypatch.setattr(f"poyo_jax.presets.{preset}", lambda: tiny.config(num_steps=1))
    presets = dict(PRESETS)
    for name, config in STRATEGIES.items():
        monkeypatch.setitem(
            STRATEGIES, name, replace(config, **SHORT, unit_steps=min(config.unit_steps, 2))
        )
    for name, search in BASELINES.items():
        if isinstance(search, NetworkSearch):
            quick = replace(
                search,
                hidden=(4,),
                bin_sizes=(0.05,),
                reaches=((0.2, 0.1),),
                num_draws=1,
                num_steps=20,
            )
            monkeypatch.setitem(BASELINES, name, quick)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    before = set(sys.modules)
    yield arrays()
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]  # files of a page
    PRESETS.clear()
    PRESETS.update(presets)  # a page adds one
    plt.close("all")


@pytest.mark.parametrize("page", CODE, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_python_of_a_page_runs(page, prepared):
    printed = ""
    if page.name == "README.md":
        prepared = {}  # it makes its arrays itself
    for block in blocks(page):
        if block.language == "python" and not block.not_run:
            if name := re.match(r"# (my_\w+\.py)\n", block.text):
                Path(name[1]).write_text(block.text, encoding="utf-8")
                continue
            # Empty lines before it make errors name the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, page, "exec")
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                exec(code, prepared)
            printed = stdout.getvalue()
        elif block.language == "text" and block.follows:
            assert printed.strip() == block.text.strip(), (
                f"{page.name}, line {block.line}: what is printed differs"
            )


def test_hardly_anything_is_not_run():
    left_out = [block.text for page in PAGES for block in blocks(page) if block.not_run]
    assert left_out and all("hf://" in text for text in left_out)


def test_every_block_says_what_it_is():
    known = {"python", "text", "{toctree}", "{eval-rst}"}
    for page in PAGES:
        assert {block.language for block in blocks(page)} <= known, page


def test_links_and_tests_that_pages_name_exist():
    broken = [f"{page.relative_to(REPOSITORY)}: {link}" for page in PAGES for link in _broken(page)]
    assert not broken


def _broken(page: Path) -> Iterator[str]:
    """Links to files, and names of tests, that do not exist."""
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]*)\)", text):
        file = link.partition("#")[0]
        if "://" not in link and not (page.parent / file).exists():
            yield link
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        file = REPOSITORY / path
        if not file.exists() or f"def {name}" not in file.read_text(encoding="utf-8"):
            yield f"{path}::{name}"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None, reason="Sphinx is not installed: poyo_jax[docs]"
)
def test_the_pages_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", DOCS, tmp_path]
    built = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").stat().st_size > 0
    index = (tmp_path / "searchindex.js").read_text(encoding="utf-8")
    words = ("lag", "trial", "matlab", "millisecond", "emg", "classif", "wandb")
    assert not [word for word in words if f'"{word}":' not in index]
    assert not (external := _loaded_from_elsewhere(tmp_path)), external


def _loaded_from_elsewhere(folder: Path) -> set[str]:
    """Addresses from which the pages would load something: they are read offline, too."""
    tags = re.compile(r"<(?:script|link|img)\b[^>]*?(?:src|href)=\"(https?://[^\"]+)\"")
    return {
        match
        for page in folder.rglob("*.html")
        for match in tags.findall(page.read_text(encoding="utf-8"))
    }
