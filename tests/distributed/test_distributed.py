"""How processes find each other and agree, as far as one process can tell; test_processes.py starts
several.
"""

import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from poyo_jax.decoding import predict as evaluate
from poyo_jax.distributed import processes as distributed
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.distributed.processes import (
    SILENCE,
    Votes,
    check_agreement,
    gather,
    problem_anywhere,
    start,
)
from poyo_jax.errors import DistributedError

VARIABLES = [
    *distributed.COUNTS,
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_NUM_SLICES",
    "JOB_COMPLETION_INDEX",
]


@pytest.fixture
def joined(monkeypatch):
    """An environment of no cluster, and what jax is told when processes join."""
    for name in [*VARIABLES, "JAX_PROCESS_ID", "KUBERNETES_SERVICE_HOST"]:
        monkeypatch.delenv(name, raising=False)
    calls = []

    def initialize(heartbeat_timeout_seconds, **options):
        assert heartbeat_timeout_seconds == SILENCE  # so that the watchdog comes first
        calls.append(options)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return calls


CLUSTERS = [
    ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, 4, {}),
    ({"OMPI_COMM_WORLD_SIZE": "2"}, 2, {}),
    (
        {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"},
        3,
        {"num_processes": 3, "process_id": 2},
    ),
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, 1, {}),
    ({"MEGASCALE_NUM_SLICES": "2"}, 1, {}),
    ({"JOB_COMPLETION_INDEX": "0", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 1, {}),
]


@pytest.mark.parametrize(("variables", "count", "told"), CLUSTERS)
def test_clusters_are_recognised(variables, count, told, joined, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax, "process_count", lambda: count)
    start("off")
    assert joined == []
    start("auto")
    assert joined == [told]


@pytest.mark.parametrize(
    "variables", [{}, {"SLURM_STEP_NUM_TASKS": "1"}, {"TPU_WORKER_HOSTNAMES": "localhost"}]
)
def test_a_process_on_its_own_joins_nobody_unless_told_to(variables, joined, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    start("auto")
    assert joined == []
    start("on")
    assert joined == [{}]


def test_processes_that_do_not_find_each_other(joined, monkeypatch):
    def fail(**_):
        raise ValueError("coordinator_address should be defined.\nand more")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(
        DistributedError,
        match=r"do not find each other \(coordinator_address should be defined.\)\. Ch",
    ):
        start("on")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(
        DistributedError,
        match=r"Start with srun, .* To run on this computer alone, give --distributed",
    ):
        start("auto")


@pytest.mark.parametrize("name", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "MEGASCALE_NUM_SLICES"])
def test_a_variable_that_holds_no_integer(name, joined, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "" if name.startswith("MEGA") else "2")
    monkeypatch.setenv(name, "two")
    with pytest.raises(DistributedError, match=f"variable {name} is 'two'; it must be an integer"):
        start("auto")
    start("off")
    assert joined == []


def test_fewer_processes_than_were_launched(joined, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(DistributedError, match="SLURM launched 2 processes, but jax sees 1"):
        start("auto")


def test_a_problem_of_another_process_is_known_everywhere(monkeypatch):
    gathered = np.array([False, False, True])
    monkeypatch.setattr("poyo_jax.distributed.processes.gather", lambda own: gathered | own)
    assert problem_anywhere("", "process {} has no disk") == "process 2 has no disk"
    assert problem_anywhere("mine is full", "process {} has no disk") == "mine is full"


def test_alone_everybody_agrees():
    check_agreement(lambda: {"configuration": "a"})
    numbers = np.array([[0.1, 1e300]])
    np.testing.assert_array_equal(gather(numbers), numbers[None])
    assert problem_anywhere("no disk", "process {} has no disk") == "no disk"
    assert problem_anywhere("", "process {} has no disk") == ""
    asked = []
    read = Votes(make_mesh()).cast(lambda: (1, len(asked)))
    asked.append("a signal after the vote was cast")
    assert read() == (1, 1)
    assert Votes(make_mesh()).largest(3, 0) == (3, 0)


# --- shares of an evaluation


@pytest.mark.parametrize("overlap", [2, 5])
@pytest.mark.parametrize("processes", [2, 3, 7, 40])
def test_every_sample_is_decoded_by_one_process_from_all_its_windows(
    processes, overlap, tiny_sessions, monkeypatch
):
    from model_sessions import bind

    sources, *_ = bind(tiny_sessions, "valid")
    starts = [evaluate.window_starts(source, 1.0, overlap) for source in sources]
    whole = evaluate._shares(sources, starts, 1.0)
    monkeypatch.setattr(
        evaluate, "jax", SimpleNamespace(process_count=lambda: processes, process_index=lambda: at)
    )
    shares = []
    for at in range(processes):  # noqa: B007 (it is what process_index returns)
        shares.append(evaluate._shares(sources, starts, 1.0))
    for place, source in enumerate(sources):
        behaviour = source.session.behaviour(source.readout.value_key)
        owners = np.zeros(behaviour.count, int)
        for share in shares:
            (of_output,) = share[place].owned
            owners[of_output] += 1
            owned = np.arange(behaviour.count)[of_output]
            for begin in whole[place].starts:
                first, last = behaviour.range(begin, begin + 1.0)
                if len(owned) and first <= owned[-1] and last > owned[0]:
                    assert begin in share[place].starts
        assert (owners == 1).all()
    counts = [sum(len(some.starts) for some in share) for share in shares]
    assert max(counts) <= sum(len(some.starts) for some in whole) / processes + 2 * overlap


# --- watchdog

WATCHED = """
import time
from poyo_jax.train.reliability.watchdog import Watchdog
with Watchdog(0.02) as watchdog:
    for _ in range(4):
        time.sleep(0.6)
        watchdog.beat()
    watchdog.beat(patience=3)
    time.sleep(2.4)
    watchdog.expect(0.1)  # twenty times that
    watchdog.beat()
    time.sleep(1.6)
    print("well", flush=True)
    time.sleep(60)
"""


def test_the_watchdog_bites_when_beats_stay_away():
    result = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 142
    assert result.stdout == "well\n"
    assert "no step was finished in time (watchdog_minutes" in result.stderr
    assert 'File "<string>", line 14' in result.stderr


SUSPENDED = """
import time
from poyo_jax.train.reliability.watchdog import Watchdog
with Watchdog(0.05) as watchdog:
    print("ready", flush=True)
    for _ in range(20):
        time.sleep(0.25)
        watchdog.beat()
    print("well", flush=True)
"""


def test_time_in_which_the_process_is_suspended_does_not_count():
    command = [sys.executable, "-c", SUSPENDED]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)
        process.send_signal(signal.SIGCONT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "well\n", "")
