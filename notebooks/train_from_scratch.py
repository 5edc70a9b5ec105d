# %% [markdown]
# # Train a small model from scratch
#
# One POYO is trained on three recordings at once, although no two of them share a unit. The
# recordings are simulated, and the model is small enough for two CPU cores: the notebook takes
# about a minute and downloads nothing.

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
from pathlib import Path

import poyo_jax
from poyo_jax import plots
from poyo_jax.baselines import wiener_filter
from poyo_jax.config import Config, DataConfig, ModelConfig, OptimConfig, RunConfig
from poyo_jax.data.simulate import simulate_session
from poyo_jax.train.writers import read_metrics

# Choose a folder that lasts, such as one on a mounted drive, for models you want to keep.
runs = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Recordings
#
# Two monkeys, two tasks. A unit fires by cosine tuning to the velocity some tens of milliseconds
# later, with Poisson variability; some units are not tuned at all. With recordings of your own,
# make sessions as in [fit_your_recording](fit_your_recording.ipynb), or open a folder of them with
# `poyo_jax.open_sessions("sessions/")`.

# %%
sessions = [
    simulate_session(
        (27, number),
        session_id=f"{subject}_{task}",
        subject_id=subject,
        num_units=num_units,
        duration=90.0,
        sampling_rate=50.0,
        task=task,
    )
    for number, (subject, task, num_units) in enumerate(
        [("ada", "center_out", 28), ("ada", "random_target", 34), ("bo", "random_target", 30)]
    )
]
for session in sessions:
    print(session)
ax = plots.raster(sessions[0], 20.0, 26.0)

# %% [markdown]
# ## The model and its training
#
# A configuration has four parts, and every setting is described where it is defined
# (`help(poyo_jax.config)`). This model is two hundred times smaller than the paper's, and does
# without dropout, since its training is so short. For a real session start from
# `poyo_jax.presets.poyo_single()`; `poyo_mp()` and `poyo_1()` are the models of the paper, for
# accelerators.

# %%
config = Config(
    model=ModelConfig(
        dim=32,
        depth=1,
        head_dim=32,
        self_heads=2,
        num_latents=8,
        feedforward_dropout=0.0,
        residual_dropout=0.0,
        attention_dropout=0.0,
    ),
    data=DataConfig(
        batch_size=16, unit_dropout=None, chunk_tokens=128
    ),  # 16 windows of one second in each step
    optim=OptimConfig(name="muon", learning_rate=5e-3, warmup_steps=50, clip_norm=1.0),
    run=RunConfig(num_steps=400, eval_every=100, log_every=10, microbatch_windows=8),
)

# %%
last = poyo_jax.train_model(config, sessions, runs / "scratch")
print(last)

# %% [markdown]
# The folder of the run has the configuration, `metrics.jsonl`, TensorBoard logs, and
# checkpoints. If training stops for any reason, the same call continues it where the last
# checkpoint left off, and ends with the same parameters.

# %%
history = read_metrics(runs / "scratch")
ax = plots.training_curve(history)

# %% [markdown]
# ## Results
#
# `load` takes the checkpoint with the best validation R². The test splits are scored once, here;
# the Wiener filters are fitted to each session on its own.

# %%
model = poyo_jax.load(runs / "scratch")
evaluation = poyo_jax.evaluate(model, sessions)
wiener = {
    session.id: wiener_filter(session, model.readouts[session.id]).r2["test"]
    for session in sessions
}
for session in sessions:
    print(
        f"{session.session_id:18} test R² {evaluation.r2[session.id]:.2f}, Wiener filter"
        f" {wiener[session.id]:.2f}"
    )

ax = plots.r2_by_session(
    {s.session_id: {"Wiener filter": wiener[s.id], "POYO": evaluation.r2[s.id]} for s in sessions}
)

# %%
prediction = evaluation.predictions[sessions[1].id]
start = prediction.times[0]
ax = plots.decoding(prediction, start, start + 8, channel=0, quantity="velocity (cm/s)")
ax = plots.decoding(prediction, start, start + 8, channel=1, quantity="velocity (cm/s)")

# %% [markdown]
# A minute of training on a minute of data per session shows that things work, no
# more. Longer recordings and more steps help: `make demo` trains on five sessions and adapts to a
# sixth. `python -m poyo_jax pretrain` does what this notebook does from the command line, on one
# computer or on many.
#
# ## Keep it
#
# `save` writes the parameters, and a model card with these scores for those you share the model
# with.

# %%
model.save(runs / "shared", r2=evaluation.r2, licence="cc0-1.0")
print(*sorted(path.name for path in (runs / "shared").iterdir()), sep="\n")
