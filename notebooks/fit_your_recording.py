# %% [markdown]
# # Fit your own recording
#
# Each recording has neurons that no model has seen. POYO knows a neuron by a vector, its unit
# embedding. To adapt a pretrained model it is enough to learn those vectors for the new units; the
# network itself stays as it is.
#
# Your recording may come as numpy arrays, an NWB file, or pynapple objects: all three are shown.
# The pretrained model and the recording are simulated here, so that nothing is downloaded. The
# notebook takes about a minute and a half on two CPU cores.

# %%
# Installs poyo_jax where it is missing, from a checkout or a wheel file, and keeps the jax that is
# there. In Colab, clone the repository or upload poyo_jax-*.whl into the current folder first.
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

try:
    version("poyo_jax")
except PackageNotFoundError:
    here = Path.cwd()
    checkouts = [path.parent.parent for path in here.glob("*/poyo_jax/__init__.py")]
    checkouts += [path for path in (here, here.parent) if (path / "poyo_jax/__init__.py").exists()]
    sources = [*sorted(here.glob("poyo_jax-*.whl"), reverse=True), *checkouts]
    if not sources:
        raise FileNotFoundError(
            f"there is neither a checkout of poyo_jax nor its wheel, poyo_jax-*.whl, in {here}."
            " Clone the repository there, or upload the wheel, and run this cell again."
        ) from None
    kept = [f"{name}=={version(name)}" for name in ("jax", "jaxlib") if find_spec(name)]
    wanted = [f"{sources[0]}[plots,data]", "pynapple", *kept]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)

# %%
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pynapple as nap
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

import poyo_jax
from poyo_jax import Session, plots
from poyo_jax.baselines import wiener_filter
from poyo_jax.data.describe import describe
from poyo_jax.data.simulate import simulate_session
from poyo_jax.finetune import FitConfig, fit_units, learn_tuning
from poyo_jax.presets import demo

# Choose a folder that lasts, such as one on a mounted drive, for what you want to keep.
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Your recording
#
# ### From numpy arrays
#
# Five arrays describe a recording. Replace this cell by what reads your own; times are in seconds.

# %%
recording = simulate_session(
    29, num_units=32, duration=90.0, sampling_rate=50.0, task="random_target"
)

spike_times = np.array(recording.spike_times)  # sorted, [spikes]
spike_units = np.array(
    recording.spike_units
)  # position in unit_ids of every spike's unit, [spikes]
unit_ids = [f"unit_{number}" for number in range(32)]
times = np.arange(4500) / 50  # [samples]
velocity = recording.behaviour("cursor.vel").values(
    0, 4500
)  # cm/s, [samples, 2]; NaN where it was not measured

# %%
monday = Session.from_arrays(
    spike_times, spike_units, unit_ids, times, velocity, session_id="monday"
)
print(monday)
for split in ("train", "valid", "test"):
    print(f"{split:5} {monday.split(split).duration:.0f} s")

# %% [markdown]
# Without further word the session is cut into ten blocks: seven train, one validates,
# two test. `train=`, `valid=` and `test=` take (start, end) pairs instead, and
# `intervals={"trials": ...}` keeps your trials.
#
# ### From an NWB file
#
# Any file with sorted units and a behaviour series will do. This cell writes one, as your
# acquisition would have:

# %%
nwb = NWBFile(
    "reaching", identifier="tuesday", session_start_time=datetime(2024, 5, 7, 9, 30, tzinfo=UTC)
)
for unit in range(32):
    nwb.add_unit(spike_times=spike_times[spike_units == unit])
series = TimeSeries(name="cursor_vel", data=velocity, timestamps=times, unit="cm/s")
module = nwb.create_processing_module("behavior", "cursor")
module.add(BehavioralTimeSeries(time_series=series, name="Velocity"))
with NWBHDF5IO(folder / "tuesday.nwb", "w") as io:
    io.write(nwb)

# %% [markdown]
# `describe` lists what could be decoded. Where the file has only positions,
# `derive_velocity=True` differentiates them.

# %%
print(describe(folder / "tuesday.nwb"))

# %%
tuesday = Session.from_nwb(folder / "tuesday.nwb", target="processing/behavior/Velocity/cursor_vel")
print(tuesday)

# %% [markdown]
# ### From pynapple

# %%
units = nap.TsGroup({unit: nap.Ts(spike_times[spike_units == unit]) for unit in range(32)})
cursor = nap.TsdFrame(t=times, d=velocity, columns=["x", "y"])

wednesday = Session.from_pynapple(units, cursor, session_id="wednesday")
print(wednesday)

# %% [markdown]
# Three sources, one session: they hold the same spikes, and from here on it does not
# matter which one you made.

# %%
for other in (tuesday, wednesday):
    assert np.array_equal(other.spike_times, monday.spike_times)
    assert np.array_equal(other.spike_units, monday.spike_units)
ax = plots.raster(tuesday, 30.0, 36.0)

# %% [markdown]
# ## A pretrained model
#
# With a model of your own or a published one this is `model = poyo_jax.load("...")`, as in
# [restore_and_decode](restore_and_decode.ipynb). Here a small one is trained on three simulated
# days with 30 units each. `learn_tuning` then relates the tuning of those units to their
# embeddings, so that new units start near old ones with like tuning.

# %%
days = [
    simulate_session(
        20 + day,
        session_id=f"day_{day}",
        num_units=30,
        duration=90.0,
        sampling_rate=50.0,
        task="random_target",
    )
    for day in (1, 2, 3)
]
preset = demo()
config = replace(
    preset,
    model=replace(
        preset.model, depth=1, feedforward_dropout=0.0, residual_dropout=0.0, attention_dropout=0.0
    ),
    data=replace(preset.data, batch_size=16, unit_dropout=None),
    optim=replace(preset.optim, learning_rate=5e-3),
    run=replace(preset.run, num_steps=500),
)
model = learn_tuning(poyo_jax.train_model(config, days, folder / "pretrain"), days)
print(model)

# %% [markdown]
# ## Fit the new units

# %%
result = fit_units(model, [tuesday], FitConfig(num_steps=100, batch_size=16), keep_snapshots=True)
print("units:", result.units)
ax = plots.training_curve(result.history)

# %% [markdown]
# Step 0 is the start from the tuning alone. Each point in the next figure is the
# embedding of a unit, in the plane in which the embeddings differ most.

# %%
ax = plots.unit_embedding(result.snapshots)

# %% [markdown]
# ## Does it decode?
#
# The test split took no part in fitting nor in choosing when to stop. A Wiener filter, fitted to
# the train split of the same session, is what to compare with.

# %%
prediction = poyo_jax.decode(result.pretrained, tuesday, split="test")
wiener = wiener_filter(tuesday, result.pretrained.readouts[tuesday.id])
print(f"test R² {prediction.r2:.2f}, Wiener filter {wiener.r2['test']:.2f}")

start = prediction.times[0]
ax = plots.decoding(prediction, start, start + 8, channel=0, quantity="velocity (cm/s)")
ax = plots.decoding(prediction, start, start + 8, channel=1, quantity="velocity (cm/s)")

# %% [markdown]
# These 32 units are tuned by the same rule as those of the pretraining days, and
# nothing else differs between days. Real recordings are less kind, and where only unit embeddings
# learn, R² often ends below that of a model that may learn everything. Then let more of it learn:
#
# ```python
# from poyo_jax.finetune import few_shot_curve, finetune
#
# result = finetune(model, [tuesday], strategy="gradual")  # unit embeddings first, then all
# parameters result = finetune(model, [tuesday], strategy="lora")     # or low-rank updates curve =
# few_shot_curve(model, tuesday)                   # how R² grows with 10 s, 30 s, 100 s of labels
# ```
#
# ## Keep it
#
# The saved model knows the three days and the new session.

# %%
result.save(folder / "tuesday_adapted")
adapted = poyo_jax.load(folder / "tuesday_adapted")
print(adapted)
print(f"test R² {poyo_jax.decode(adapted, tuesday).r2:.2f}")
