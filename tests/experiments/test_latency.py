"""The certificate measures every contender, and finds out what breaks a promise."""

import numpy as np
import pytest

from experiments.benchmarks import latency
from experiments.benchmarks.latency import Latency, Measured, StreamUpdate
from poyo_jax.errors import ConfigError, MissingDependencyError, PoyoError
from poyo_jax.native.library import find_compiler


def test_updates_are_measured(capsys, monkeypatch, tmp_path):
    try:
        find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(latency, "FIRST", 30)
    picture = tmp_path / "latency.png"
    options = Latency(preset="demo", updates=5, contenders=("jax", "native_1"), picture=picture)
    latency.certify(options)
    printed = capsys.readouterr().out
    assert "| contender, ms | min | p50 | p99 | p99.9 | worst |" in printed
    assert "| jax |" in printed and "| native_1 |" in printed
    assert "programs compiled: 0" in printed and "not accounted for: 0" in printed
    assert "overflow 0" in printed and picture.stat().st_size > 1000


def test_lost_spikes_are_found():
    class Loses:
        """A stream that keeps quiet about a spike in ten."""

        class engine:
            window_length = 1.0

        hop, kept = 0.5, 0

        def warm_up(self):
            pass

        def push(self, times, units):
            self.kept += len(times) - 1

        def predict(self, now):
            class Decoded:
                num_spikes = self.kept

                class counts:
                    dropped = 0

            return Decoded

        def prepare(self, next):
            pass

    update = StreamUpdate(Loses())  # pyright: ignore[reportArgumentType]
    update(0.5, np.linspace(0.1, 0.4, 10), np.zeros(10, int))
    assert update.unaccounted == 1


@pytest.mark.parametrize("fault", ["compiled", "growth", "unaccounted"])
def test_a_broken_promise_fails(fault):
    measured = Measured({"jax": np.ones(3)}, **{fault: 5})
    with pytest.raises(PoyoError, match="a promise is broken"):
        latency.report(measured, Latency())


def test_a_model_needs_a_session():
    with pytest.raises(ConfigError, match="give both, or none"):
        latency.certify(Latency(model="runs/monday"))
