"""Settings and fixtures for all tests."""

import os
import shutil
import signal
from importlib.metadata import version
from pathlib import Path

import jaxtyping
import pytest
import typecheck
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
# Compiled programs stay between runs of the tests; `make clean` removes them.
COMPILED = REPOSITORY / ".cache" / "compiled"
MAX_COMPILED = 1_000_000_000  # bytes
# The two workers begin with the two longest files.
LONGEST = ("test_docs.py", "test_processes.py")
# A test is slow if it trains, compiles a whole model, or starts programs, a browser or Sphinx.
SLOW_FIXTURES = {"browser", "small_disk", "tiny_data"}
SLOW_FOLDERS = {"experiments"}
# One file of each package stays fast all the same: that of decoding needs a trained model.
FAST_FILES = {"test_window.py"}
SLOW_FILES = {
    "test_attention.py",
    "test_benchmark_sets.py",
    "test_check.py",
    "test_choose.py",
    "test_clock.py",
    "test_compiled.py",
    "test_convert.py",
    "test_download.py",
    "test_falcon.py",
    "test_fit.py",
    "test_fit_baseline.py",
    "test_flops.py",
    "test_health.py",
    "test_laboratory.py",
    "test_lamb.py",
    "test_layout.py",
    "test_lookup.py",
    "test_loop.py",
    "test_manifest.py",
    "test_native_engine.py",
    "test_networks.py",
    "test_notebooks.py",
    "test_nwb_session.py",
    "test_outputs.py",
    "test_perich.py",
    "test_poyo_file.py",
    "test_poyo_run.py",
    "test_prepare.py",
    "test_processes.py",
    "test_processor.py",
    "test_program.py",
    "test_properties.py",
    "test_raw_damage.py",
    "test_rows.py",
    "test_sharing.py",
    "test_start.py",
    "test_starting.py",
    "test_step.py",
    "test_strategies.py",
    "test_stream_command.py",
    "test_stream_decoder.py",
    "test_wiener.py",
}


def pytest_configure(config: pytest.Config) -> None:
    """Set how XLA compiles: tests compile much and compute little, so it optimises little.

    The variables hold for the processes that tests start, too.
    """
    if not hasattr(config, "workerinput"):
        _remove_large_cache()
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    if version("jaxlib").split(".")[:2] != ["0", "7"]:  # which ends every program with this flag
        # Devices wait for each other, also where eight share two busy cores.
        flags += " --xla_cpu_collective_call_terminate_timeout_seconds=280"
    os.environ.setdefault("XLA_FLAGS", flags)
    # And with a thread for each device alone, the last one may never get its own.
    os.environ.setdefault("NPROC", "32")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # The same examples every time, and no limit on their time: machines differ.
    settings.register_profile("steady", derandomize=True, deadline=None)
    settings.load_profile("steady")
    # Shells start programs in the background deaf to Ctrl-C, and what these start is deaf, too;
    # tests press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _remove_large_cache() -> None:
    """Remove the compiled programs if they take too much space: nothing else removes old ones."""
    size = sum(path.stat().st_size for path in COMPILED.glob("*"))
    if size > MAX_COMPILED:
        shutil.rmtree(COMPILED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests. Files that have one come first: fast files then fill the end evenly."""
    slow_files = set()
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        in_slow_place = item.path.name in SLOW_FILES or item.path.parent.name in SLOW_FOLDERS
        uses_slow_fixture = bool(fixtures & SLOW_FIXTURES) and item.path.name not in FAST_FILES
        if in_slow_place or uses_slow_fixture:
            item.add_marker("slow")
        if item.get_closest_marker("slow"):
            slow_files.add(item.path)

    def turn(item: pytest.Item) -> int:
        if item.path.name in LONGEST:
            return LONGEST.index(item.path.name)
        return len(LONGEST) + (item.path not in slow_files)

    items.sort(key=turn)


@pytest.fixture(autouse=True, scope="module")
def _checks_begin() -> None:
    """Check the types of the first calls in this file."""
    typecheck.begin_file()


@pytest.fixture(autouse=True)
def unchecked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the checks of annotations off in tests marked `unchecked`: they pass wrong types."""
    if request.node.get_closest_marker("unchecked"):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference recordings and library output; where it is absent the test says so and
    skips.
    """
    folder = Path(os.environ.get("POYO_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "examples").is_dir():
        pytest.skip(
            f"reference recordings are not at {folder}; set POYO_SHARED to test against them"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files of three simulated sessions; the last one is not pretrained on."""
    import tiny

    folder = tmp_path_factory.mktemp("sessions")
    tiny.save_sessions(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sessions(tiny_data: Path) -> list:
    from poyo_jax import open_sessions

    return open_sessions(tiny_data)


@pytest.fixture(scope="session")
def tiny_run(tiny_sessions: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work directory of a finished run on the first two sessions. Tests that change it work on a
    copy.
    """
    import tiny

    from poyo_jax import train_model

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    train_model(tiny.config(), tiny_sessions[:2], workdir, progress=False)
    return workdir


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; where there is none the test says so and skips."""
    from experiments.tools.browser import chromium
    from poyo_jax.errors import MissingDependencyError

    try:
        with chromium() as browser:
            yield browser
    except MissingDependencyError as error:
        pytest.skip(str(error))
