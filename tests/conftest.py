"""Settings and fixtures for all tests."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent
# Compiled programs stay between runs of the tests; `make clean` removes them.
COMPILED = REPOSITORY / ".cache" / "compiled"


def pytest_configure() -> None:
    """Tests compile much and compute little, so XLA optimises little, and nothing is compiled
    twice.

    The variables hold for the processes that tests start, too.
    """
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    os.environ.setdefault("XLA_FLAGS", f"{flags} --xla_cpu_use_fusion_emitters=false")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    # The same examples every time, and no limit on their time: machines differ.
    settings.register_profile("steady", derandomize=True, deadline=None)
    settings.load_profile("steady")
    # Shells start programs in the background deaf to Ctrl-C, and what these start is deaf, too;
    # tests press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
