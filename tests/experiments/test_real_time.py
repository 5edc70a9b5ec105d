"""The benchmark of updates measures every contender, and finds that nothing compiles."""

import pytest

from experiments.benchmarks import real_time
from poyo_jax.errors import MissingDependencyError
from poyo_jax.native.library import find_compiler


def test_updates_are_measured(capsys, monkeypatch, tmp_path):
    try:
        find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(real_time, "FIRST", 30)
    picture = tmp_path / "latency.png"
    options = real_time.RealTime(
        preset="demo", updates=5, contenders=("jax", "native_1"), picture=picture
    )
    real_time.measure(options)
    printed = capsys.readouterr().out
    assert "| contender, ms | min | p50 | p99 | p99.9 | worst |" in printed
    assert "| jax |" in printed and "| native_1 |" in printed
    assert "programs compiled: 0" in printed and "overflow=0" in printed
    assert picture.stat().st_size > 1000
