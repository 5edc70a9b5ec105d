# %% [markdown]
# # Restore a model and decode
#
# A trained POYO is a folder with its parameters, its configuration, and the names of the units and
# sessions that it knows. This notebook trains a small one on simulated reaching (half a minute on
# two CPU cores, no download), loads it back, and decodes cursor velocity with it: a whole test
# split at once, then one window after the other.

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
    wanted = [f"{sources[0]}[plots]", *kept]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *wanted], check=True)

# %%
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import poyo_jax
from poyo_jax import plots
from poyo_jax.baselines import wiener_filter
from poyo_jax.data.simulate import simulate_session
from poyo_jax.presets import demo

# Choose a folder that lasts, such as one on a mounted drive, for models you want to keep.
runs = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A model to restore
#
# Two recordings of 90 s, each with 30 units of its own. Every session is cut into ten blocks; seven
# train the model, one tells which checkpoint is best, and two are the test split, which nothing is
# trained or chosen on.

# %%
sessions = [
    simulate_session(
        20 + day,
        session_id=f"day_{day}",
        num_units=30,
        duration=90.0,
        sampling_rate=50.0,
        task="random_target",
    )
    for day in (1, 2)
]
preset = demo()
config = replace(
    preset,
    model=replace(
        preset.model, depth=1, feedforward_dropout=0.0, residual_dropout=0.0, attention_dropout=0.0
    ),
    data=replace(preset.data, batch_size=16, unit_dropout=None),
    optim=replace(preset.optim, learning_rate=5e-3),
    run=replace(preset.run, num_steps=200),
)
poyo_jax.train_model(config, sessions, runs / "study")

# %% [markdown]
# ## Restore it

# %%
model = poyo_jax.load(runs / "study")
print(model)
print(*model.sessions.names, sep=", ")
print(*model.units.names[:3], "...", sep=", ")

# %% [markdown]
# The same call loads from a bucket and from the Hugging Face hub, on any number of
# devices. Only parameters are read, never the optimiser state, and nothing that a file asks to run
# is run.
#
# ```python
# model = poyo_jax.load("runs/study")              # a run, or a folder that model.save(...) wrote
# model = poyo_jax.load("runs/study", step=200)    # instead of the one of the best validation R²
# model = poyo_jax.load("study.safetensors")       # a model in one file
# model = poyo_jax.load("gs://bucket/runs/study")  # with: pip install "poyo_jax[gcs]"
# model = poyo_jax.load("hf://organisation/name")  # with: pip install "poyo_jax[hub]"
# model = poyo_jax.from_torch("poyo_mp.ckpt")      # a checkpoint of torch_brain, without torch
# ```
#
# ## Decode the test split

# %%
session = sessions[0]
prediction = poyo_jax.decode(model, session, split="test")
wiener = wiener_filter(session, model.readouts[session.id])
print(f"test R² {prediction.r2:.2f}, Wiener filter {wiener.r2['test']:.2f}")
print(
    f"{len(prediction.times)} samples of {prediction.values.shape[1]} channels, in the units of the"
    " session (cm/s)"
)

# %% [markdown]
# The units of these recordings were simulated with a log rate that is linear in
# velocity, which a linear filter suits well. Look at the traces before you trust a number:

# %%
start = prediction.times[0]
ax = plots.raster(session, start, start + 8)
ax = plots.decoding(prediction, start, start + 8, channel=0, quantity="velocity (cm/s)")
ax = plots.decoding(prediction, start, start + 8, channel=1, quantity="velocity (cm/s)")

# %% [markdown]
# `evaluate` does the same for many sessions and scores each.

# %%
evaluation = poyo_jax.evaluate(model, sessions)
print(f"mean test R² {evaluation.mean:.2f}, standard deviation over sessions {evaluation.std:.2f}")

# %% [markdown]
# ## Decode one window after the other
#
# In an experiment spikes arrive window by window. `WindowDecoder` gives the same values and is made
# for that: times count from the start of the window, and a unit is its position in
# `session.unit_ids`.

# %%
decoder = poyo_jax.WindowDecoder(model, session)
query_times = np.arange(0.0, 1.0, 0.02)  # s
decoder.warm_up(num_spikes=1000, num_queries=len(query_times))

took = []
for start in np.arange(30.0, 35.0, 0.1):
    spike_times, spike_units = session.spikes_between(start, start + 1.0)
    began = time.perf_counter()
    velocity = decoder(spike_times - start, spike_units, query_times)
    took.append(time.perf_counter() - began)
print(f"{1000 * np.median(took):.1f} ms per window (median), {1000 * np.max(took):.1f} ms at most")

# %% [markdown]
# ## Sessions that a model does not know
#
# A recording with other units needs embeddings for them first. The error says so, and
# [fit_your_recording](fit_your_recording.ipynb) shows how.

# %%
other_day = simulate_session(23, session_id="day_3", num_units=25, duration=60.0)
try:
    poyo_jax.decode(model, other_day)
except poyo_jax.PoyoError as error:
    print(error)
