"""Run a script that is one of several processes, and keep the programs that this process compiles.

    python tests/keep_compiled.py SCRIPT [ARGUMENT ...]

Of several processes JAX lets only the first write to the folder of compiled programs, and the
others, whose programs have other keys, compile all of them in every test.
"""

import runpy
import sys
from types import SimpleNamespace

from jax._src import compiler

if __name__ == "__main__":
    first = SimpleNamespace(process_id=0, client=None)
    compiler.distributed = SimpleNamespace(global_state=first)
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
