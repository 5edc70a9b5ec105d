"""Build the wheel and the source archive, install them in an empty environment, and use them.

    $ python -m experiments.tools.release_check --dist dist        (or: make release-check)

The environment has nothing but the wheel and what it asks for, and every step runs in an empty
folder, so that nothing of the checkout is found. It needs the package `build`, and the network or a
mirror for the dependencies. The last line tells if all steps worked.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OF_THE_SOURCE = ("pyproject.toml", "README.md", "LICENSE", "poyo_jax")
SHORT = "--config.run.num-steps=20 --config.run.eval-every=10 --config.optim.warmup-steps=5"
IMPORT = """
from pathlib import Path
import poyo_jax
assert not Path(poyo_jax.__file__).is_relative_to({repository!r}), poyo_jax.__file__
for name in poyo_jax.pretrained_models():
    print(name, poyo_jax.load(name))
"""
NATIVE = "import poyo_jax.native; print(poyo_jax.native.build('rig'))"
FEW = 60  # steps of a program; the warm-up of the demo takes 50
FEWER_STEPS = re.compile(r"\b(num_steps=|with_steps\(demo\(\), )\d+")


class Installed:
    """An environment with the package, and an empty folder to use it in."""

    def __init__(self, folder: Path):
        self.venv, self.folder = folder / "venv", folder / "empty"
        self.folder.mkdir()
        run([sys.executable, "-m", "venv", str(self.venv)])

    def pip(self, *words: str) -> None:
        pip = [str(self.venv / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
        run([*pip, *words], self.folder)

    def python(self, *words: str) -> str:
        return run([str(self.venv / "bin/python"), *words], self.folder)

    def command(self, line: str) -> str:
        """A command of the package."""
        return self.python("-m", "poyo_jax", *line.split())

    def program(self, text: str) -> str:
        """A program of the documentation, with fewer steps of training."""
        (self.folder / "program.py").write_text(FEWER_STEPS.sub(rf"\g<1>{FEW}", text))
        return self.python("program.py")


def run(command: list[str], folder: Path = REPOSITORY) -> str:
    """Standard output of a command. Exits with its output when it fails."""
    done = subprocess.run(command, cwd=folder, env=outside(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nends with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def outside() -> dict[str, str]:
    """The variables of this process without the way to the checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"MPLBACKEND": "Agg"}


def build(dist: Path) -> tuple[Path, Path]:
    """The wheel and the source archive, built from a copy without anything but the source."""
    with tempfile.TemporaryDirectory() as folder:
        for name in OF_THE_SOURCE:
            path = REPOSITORY / name
            if path.is_dir():
                shutil.copytree(path, Path(folder) / name)
            else:
                shutil.copy(path, folder)
        run([sys.executable, "-m", "build", "--outdir", str(dist), folder])
    [wheel], [archive] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, archive


def readme() -> str:
    """All Python of the README that runs without the network or other packages."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?<!-->\n)^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "\n".join(blocks)


def watch(installed: Installed) -> str:
    """Start the explorer and ask for its page."""
    python = str(installed.venv / "bin/python")
    command = [python, "-m", "poyo_jax", "explore", "run", "--data", "lab"]
    with subprocess.Popen(
        command, cwd=installed.folder, env=outside(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            found = (re.search(r"http://\S+", line) for line in process.stdout or [])
            address = next((match[0] for match in found if match), None)
            if address is None:
                sys.exit("the explorer ended before it told its address.")
            with urllib.request.urlopen(address, timeout=60) as answer:
                page = answer.read().decode()
        finally:
            process.kill()
    if "<svg" not in page and "<script" not in page:
        sys.exit(f"the explorer's page is none: {page[:200]}")
    return address


def steps(installed: Installed) -> dict[str, Callable[[], object]]:
    """What a stranger does with the package, by name, in order."""
    notebook = (REPOSITORY / "notebooks/restore_and_decode.py").read_text(encoding="utf-8")
    train = f"pretrain demo --data lab --workdir run {SHORT}"
    return {
        "import": lambda: installed.python("-c", IMPORT.format(repository=str(REPOSITORY))),
        "simulate": lambda: installed.command("simulate lab --num-sessions 2"),
        "trainer": lambda: installed.command(train),
        "evaluate": lambda: installed.command("evaluate run lab"),
        "convert": lambda: installed.command("convert run --out run.safetensors"),
        "report": lambda: installed.command("report run --data lab --no-baseline"),
        "explorer": lambda: watch(installed),
        "native source": lambda: installed.python("-c", NATIVE),
        "notebook": lambda: installed.program(notebook),
        "README": lambda: installed.program(readme()),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="folder for both files")
    dist = parser.parse_args(arguments).dist.resolve()
    if dist.exists() and any(dist.iterdir()):
        sys.exit(f"{dist} is not empty; remove it, or name another folder by --dist.")
    wheel, archive = build(dist)
    print(f"built {wheel.name} and {archive.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        installed = Installed(Path(folder))
        installed.pip("install", "-q", f"{wheel}[plots]")
        for name, step in steps(installed).items():
            began = time.monotonic()
            step()
            print(f"{name}: works ({time.monotonic() - began:.0f} s)", flush=True)
        # An extra is found without any index once the package is installed.
        installed.pip("install", "-q", "poyo_jax[plots]")
        installed.pip("install", "-q", "--force-reinstall", "--no-deps", str(archive))
        installed.python("-c", IMPORT.format(repository=str(REPOSITORY)))
        installed.command("evaluate run lab")
    print("the wheel and the source archive work in an empty environment.")


if __name__ == "__main__":
    main()
