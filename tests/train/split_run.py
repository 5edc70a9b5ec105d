"""Run by test_processes.py in place of the pretraining script: a short run whose parameters are
split over the processes, which then decode with the model that it returns and save it.
"""

import sys
from pathlib import Path

import tiny

from poyo_jax import evaluate, load, open_sessions, train_model
from poyo_jax.config import MeshConfig
from poyo_jax.distributed.processes import start

start()
workdir = Path(sys.argv[sys.argv.index("--workdir") + 1])
sessions = open_sessions(sys.argv[sys.argv.index("--data") + 1], ["session_0", "session_1"])
config = tiny.config(num_steps=2, eval_every=2, save_every=2, mesh=MeshConfig(data=1, fsdp=2))
model = train_model(config, sessions, workdir, progress=False)
model.save(workdir / "model.safetensors")
model.save(workdir / "model")
same = [load(workdir / name) for name in ("model.safetensors", "model")]
print([evaluate(each, sessions).mean for each in (model, *same)])
