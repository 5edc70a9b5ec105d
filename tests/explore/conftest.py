"""A running explorer of a tiny model and its sessions, the last of which the model does not
know.
"""

from threading import Thread

import pytest

from poyo_jax import load
from poyo_jax.explore.explorer import Explorer
from poyo_jax.explore.server import ExplorerServer


@pytest.fixture(scope="session")
def explorer(tiny_run, tiny_sessions):
    explorer = Explorer(load(tiny_run), tiny_sessions)
    yield explorer
    explorer.close()


@pytest.fixture(scope="session")
def server(explorer):
    with ExplorerServer(explorer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
