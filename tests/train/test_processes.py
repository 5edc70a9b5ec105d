"""Several processes, really started: they compute what one does, and they stop, fail and go on
together.
"""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from processes import REPOSITORY, Job, arguments

from poyo_jax import load
from poyo_jax.checkpoint.store import saved_steps
from poyo_jax.cli.pretrain import main as pretrain
from poyo_jax.train.writers import read_metrics

STEPS = 12
SETTINGS = [
    "--config.run.num-steps",
    str(STEPS),
    "--config.run.log-every",
    "1",
    "--config.run.eval-every",
    str(STEPS),
]
SETTINGS += ["--config.optim.name", "sparse_lamb", "--config.optim.learning-rate", "0.016"]


def losses(workdir) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(workdir) if "loss" in line}


def final_params(workdir) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(load(workdir, step=STEPS).params)]


@pytest.fixture(scope="module")
def alone(tiny_data, tmp_path_factory):
    """(work directory, output) of a run in one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    with Job(tiny_data, workdir, *SETTINGS, devices=4) as job:
        codes, outputs, errors = job.finish()
    assert codes == [0], errors
    return workdir, outputs[0]


@pytest.fixture(scope="module")
def stopped(tiny_data, tmp_path_factory):
    """(work directory, step) of a run in two processes with two devices each, of which one was told
    to end.
    """
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    with Job(tiny_data, workdir, *SETTINGS, processes=2, devices=2) as job:
        job.wait_until_step(2)
        job.processes[1].send_signal(signal.SIGTERM)
        codes, _, errors = job.finish()
    assert codes == [42, 42], errors
    (step,) = saved_steps(workdir)
    for text in errors:
        assert text.splitlines()[-1].startswith(
            f"stopped at step {step} of {STEPS}, which is saved in {workdir}."
        )
    return workdir, step


def test_a_signal_to_one_stops_all_at_a_step_that_is_saved(stopped, alone):
    workdir, step = stopped
    assert 2 <= step < STEPS
    assert losses(workdir) == {
        number: loss for number, loss in losses(alone[0]).items() if number <= step
    }


def continued(stopped, tiny_data, folder, processes, devices):
    """Work directory and output of process 0 after the rest of the stopped run on other processes
    and devices.
    """
    workdir, step = shutil.copytree(stopped[0], folder / "run"), stopped[1]
    with Job(tiny_data, workdir, *SETTINGS, processes=processes, devices=devices) as job:
        codes, outputs, errors = job.finish()
    assert codes == [0] * processes, errors
    assert f"restoring step {step} from {workdir}" in errors[0]
    assert outputs[1:] == [""] * (processes - 1)
    return workdir, outputs[0]


@pytest.mark.parametrize(("processes", "devices"), [(2, 2), (1, 4)])
def test_equally_many_devices_continue_bit_for_bit(
    processes, devices, stopped, alone, tiny_data, tmp_path
):
    """And the R2 of test and valid splits, of which processes decode unequal shares, are those of
    one process.
    """
    workdir, output = continued(stopped, tiny_data, tmp_path, processes, devices)
    for own, expected in zip(final_params(workdir), final_params(alone[0]), strict=True):
        np.testing.assert_array_equal(own, expected)
    assert losses(workdir) == losses(alone[0])
    assert output == alone[1]
    assert "mean ± SD" in output
    own, expected = (read_metrics(folder)[-1] for folder in (workdir, alone[0]))
    assert own["valid_r2_by_session"] == pytest.approx(expected["valid_r2_by_session"], abs=1e-6)


def test_another_device_continues_with_the_same_batches(
    stopped, alone, tiny_data, tmp_path, monkeypatch
):
    """In this process, which has one."""
    workdir = shutil.copytree(stopped[0], tmp_path / "run")
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    pretrain([str(word) for word in arguments(tiny_data, workdir, *SETTINGS)])
    for own, expected in zip(final_params(workdir), final_params(alone[0]), strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)
    assert losses(workdir) == pytest.approx(losses(alone[0]), rel=1e-5)


def test_a_process_that_was_started_otherwise_is_refused_by_all(tiny_data, tmp_path):
    own = [[], ["--config.data.seed", "7"]]
    with Job(tiny_data, tmp_path / "run", *SETTINGS, processes=2, own=own) as job:
        codes, _, errors = job.finish()
    assert codes == [2, 2], errors
    for text in errors:
        assert "the processes of this job were not started alike. Different from process 0:" in text
        assert "configuration of process 1" in text
        assert "Start every process with the same command, code and data." in text
    assert '"seed": 7' in errors[1]
    assert not (tmp_path / "run").exists()


def test_a_model_of_split_parameters_decodes_and_is_saved(tiny_data, tmp_path):
    script = REPOSITORY / "tests" / "train" / "split_run.py"
    with Job(tiny_data, tmp_path / "run", processes=2, script=script) as job:
        codes, outputs, errors = job.finish()
    assert codes == [0, 0], errors
    scores = [json.loads(text.splitlines()[-1]) for text in outputs]
    assert scores[0] == scores[1]
    assert scores[0] == pytest.approx([scores[0][0]] * 3, abs=1e-6)
    assert (tmp_path / "run" / "README.md").is_file()


def test_a_process_that_hangs_is_ended_and_so_are_the_others(tiny_data, tmp_path):
    """But not one that waits for a peer that compiles."""
    script = REPOSITORY / "tests" / "train" / "reliability" / "stuck.py"
    limit = ["--config.run.watchdog-minutes", "0.1"]
    with Job(
        tiny_data, tmp_path / "run", *SETTINGS, *limit, processes=2, devices=2, script=script
    ) as job:
        codes, _, errors = job.finish()
    # The end of one process may end the other before its own watchdog does.
    assert set(codes) <= {134, 142, -signal.SIGABRT}, errors
    assert 142 in codes, errors
    assert "the process hangs here:" in errors[1]
    assert 'stuck.py", line' in errors[1]


def test_a_lost_process_ends_the_others_with_a_status_that_says_start_again(tiny_data, tmp_path):
    limit = ["--config.run.watchdog-minutes", "0.5"]  # where the transport does not notice
    with Job(tiny_data, tmp_path / "run", *SETTINGS, *limit, processes=2, devices=2) as job:
        job.wait_until_step(2)
        job.processes[1].kill()
        codes, _, errors = job.finish()
    assert codes[0] in (134, 142, -signal.SIGABRT), errors


# --- one process


def test_signals_to_the_whole_group_find_the_workers_deaf(tiny_data, tmp_path):
    settings = ["--config.run.log-every", "1", "--config.run.num-workers", "1"]
    with Job(tiny_data, tmp_path / "run", *settings) as job:
        job.wait_until_step(3)
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.killpg(job.processes[0].pid, number)
        codes, _, errors = job.finish()
    assert codes == [42], errors
    assert "Traceback" not in errors[0]
    assert saved_steps(tmp_path / "run") == [max(losses(tmp_path / "run"))]
