"""Compile the native back end with the compiler of this machine.

It is compiled when it is first used, not when the package is installed: one way serves a checkout,
an editable install and a wheel, the wheel stays pure Python, and `pip install` needs no compiler.
The library stays in the user's cache, by the digest of its source, the options and the kind of
machine: several machines may share a home folder.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.files import local_path, writable

logger = logging.getLogger(__name__)

SOURCES = ("poyo.h", "model.h", "file.h", "kernels.h", "poyo.cpp")  # of the library
FOLDER = Path(__file__).resolve().parent
OPTIONS = (
    "-std=c++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-Wno-psabi",
    "-Wno-ignored-attributes",
    "-pthread",
)
LIBRARY = "libpoyo.so"
PROGRAM = "poyo_run"


def build(folder: str | Path) -> tuple[Path, Path]:
    """Compile the library and the program `poyo_run` into a folder, and return their paths.

    Both need neither Python nor this package: copy them to the rig. Raises MissingDependencyError
    without a compiler of C++17, and PoyoError when it fails or the folder cannot be written.
    """
    folder = local_path(folder)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    library, program = folder / LIBRARY, folder / PROGRAM
    compile_into(library, ["-shared", "-fPIC", "poyo.cpp"])
    compile_into(program, ["poyo.cpp", "poyo_run.cpp", "-ldl"])
    return library, program


def compile_into(path: Path, arguments: list[str]) -> None:
    """Compile sources of this folder to a file, which is there whole or not at all.

    Raises MissingDependencyError without a compiler, and PoyoError when it fails.
    """
    command = [find_compiler(), *OPTIONS, *arguments]
    with writable(path), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder).resolve() / path.name  # the compiler runs in another folder
        done = subprocess.run([*command, "-o", str(made)], cwd=FOLDER, capture_output=True)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            errors = [line for line in lines if "error" in line]
            [first, *_] = [*errors, *lines, "without a message"]
            raise PoyoError(
                f"{command[0]} cannot compile the native back end ({first}). Install g++"
                " 12, with which it is tested, or a newer one, or decode without it."
            )
        made.replace(path)


def find_compiler() -> str:
    """Return the C++ compiler: that of the variable CXX, or the first that there is.

    Raises MissingDependencyError if there is none.
    """
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise MissingDependencyError(
        "the native back end needs a C++ compiler, and there is none. Install g++ (Debian, Ubuntu:"
        " apt install g++) or set CXX; or decode with the back end of JAX, whose updates take"
        " about twice as long as those of two threads."
    )


@cache
def load_library() -> ctypes.CDLL:
    """Load the library, and compile it first if this source has not been compiled here.

    Raises MissingDependencyError without a compiler, and PoyoError when it fails or what it made
    cannot be loaded.
    """
    if sys.platform == "win32":
        raise MissingDependencyError(
            "the native back end is for Linux and macOS; decode with the back end of JAX."
        )
    cached = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "poyo_jax"
    path = cached / _digest() / LIBRARY
    if not path.exists():
        logger.info("compiling the native back end (half a minute, once) into %s", path)
        with writable(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        compile_into(path, ["-shared", "-fPIC", "poyo.cpp"])
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise PoyoError(
            f"the native back end cannot be loaded ({error}). Delete {path.parent}, so that it is"
            " compiled again, or decode with the back end of JAX."
        ) from error


def _digest() -> str:
    """A fingerprint of the source, the options and the kind of machine."""
    machine = (sys.platform, platform.machine(), *platform.libc_ver())
    digest = hashlib.sha256(" ".join((*OPTIONS, *machine)).encode())
    for name in SOURCES:
        digest.update((FOLDER / name).read_bytes())
    return digest.hexdigest()[:16]
