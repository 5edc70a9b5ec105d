"""Make the golden numbers of this folder with the PyTorch reference. README.md here: how to run it,
what arrays mean.

Every input (weights, spikes, targets, gradients) comes from numpy's seeded generator, every output
from torch and
torch_brain: the model, its tokeniser and its collate function from version 0.2.1, and SparseLamb
from 0.1.2, the last version whose wheel contains it (`torch_brain/optim.py`). That file is loaded
by its path, beside the installed 0.2.1.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch_brain.batching import collate, pad8
from torch_brain.models import POYO
from torch_brain.nn import RotaryTimeEmbedding

SEED = 11
HPARAMS = dict(
    sequence_length=1.0,
    latent_step=0.25,
    num_latents_per_step=4,
    dim=32,
    depth=2,
    dim_head=16,
    cross_heads=2,
    self_heads=2,
    ffn_dropout=0.2,
    lin_dropout=0.4,
    atn_dropout=0.2,
    dim_out=2,
)
NUM_UNITS = {"sessA": 6, "sessB": 4}
WINDOWS = (("sessA", 37, 5), ("sessB", 70, 11), ("sessA", 0, 8))  # session, spikes, queries
TRAINING = dict(
    lr=0.004, weight_decay=1e-4, total_steps=20, pct_start=0.5, div_factor=1, num_steps=5
)
KEPT_STEPS = (1, 3, 5)
LAMB_CASES = {"wd": dict(lr=0.05, weight_decay=0.01), "nowd": dict(lr=0.05, weight_decay=0.0)}
LAMB_CASES["recipe"] = dict(lr=0.004, weight_decay=1e-4)
LAMB_SHAPES = {"emb": (7, 4), "mat": (4, 3), "big": (4, 3), "bias": (3,)}
LAMB_ROWS_WITHOUT_GRADIENT = ([0, 3, 5], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6], [0], [])
OMEGA_HEAD_DIMS = (16, 32, 64, 128)
EMBEDDED_HEAD_DIMS = (16, 64)
ONE_CYCLES = {40: 0.004, 1000: 0.032}  # number of steps: peak learning rate

Arrays = dict[str, np.ndarray]
TIME_KEYS = ("input_timestamps", "latent_timestamps", "output_timestamps")


def load_sparse_lamb(path: Path) -> type[torch.optim.Optimizer]:
    """SparseLamb from a torch_brain/optim.py, without importing the package around it."""
    spec = importlib.util.spec_from_file_location("torch_brain_optim", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SparseLamb


# --- inputs


def tiny_inputs(rng: np.random.Generator) -> Arrays:
    """Weights off their initial point, three windows (the last without spikes), their queries and
    targets.
    """
    inputs = {}
    units = [f"{session}/u{i}" for session, count in NUM_UNITS.items() for i in range(count)]
    inputs["vocab/unit"] = np.array(["NA", *units])
    inputs["vocab/session"] = np.array(["NA", *NUM_UNITS])
    for name, parameter in new_model(inputs).named_parameters():
        inputs[f"param/{name}"] = random_parameter(rng, name, tuple(parameter.shape))
    for i, (session, num_spikes, num_queries) in enumerate(WINDOWS):
        inputs[f"raw/{i}/session_id"] = np.array(session)
        inputs[f"raw/{i}/unit_ids"] = np.array([unit for unit in units if unit.startswith(session)])
        inputs[f"raw/{i}/spike_unit_index"] = rng.integers(0, NUM_UNITS[session], num_spikes)
        inputs[f"raw/{i}/spike_timestamps"] = np.sort(rng.random(num_spikes))
        inputs[f"raw/{i}/output_timestamps"] = np.sort(rng.random(num_queries)).astype(np.float32)
        inputs[f"raw/{i}/target"] = rng.standard_normal((num_queries, HPARAMS["dim_out"])).astype(
            np.float32
        )
        inputs[f"raw/{i}/weights"] = rng.choice(np.array([0.1, 1.0, 5.0], np.float32), num_queries)
    return inputs


def random_parameter(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "_emb" in name:
        value = 0.4 * rng.standard_normal(shape)
        if name in ("unit_emb.weight", "session_emb.weight"):
            value[0] = 0.0
    elif len(shape) == 2:
        value = rng.uniform(-1, 1, shape) / np.sqrt(shape[1])
    elif name.endswith("weight"):  # LayerNorm
        value = 1.0 + 0.1 * rng.standard_normal(shape)
    else:
        value = 0.1 * rng.standard_normal(shape)
    return value.astype(np.float32)


def sparse_lamb_inputs(rng: np.random.Generator) -> Arrays:
    """Start values and five gradients; some rows of the table, and once the whole matrix, have zero
    gradient.
    """
    scale = {"emb": 0.5, "mat": 0.3, "big": 6.0, "bias": 0.0}
    inputs = {}
    for name, shape in LAMB_SHAPES.items():
        start = (scale[name] * rng.standard_normal(shape)).astype(np.float32)
        gradients = rng.standard_normal((len(LAMB_ROWS_WITHOUT_GRADIENT), *shape)).astype(
            np.float32
        )
        if name == "emb":
            start[0] = 0.0
            for step, rows in enumerate(LAMB_ROWS_WITHOUT_GRADIENT):
                gradients[step, rows] = 0.0
        if name == "mat":
            gradients[1] = 0.0
        inputs[f"grads/{name}"] = gradients
        inputs |= {f"{case}/param0/{name}": start for case in LAMB_CASES}
    return inputs


# --- model


def new_model(inputs: Arrays) -> POYO:
    """The tiny model in evaluation mode (no dropout) with the vocabulary and, where given, the
    weights of `inputs`.
    """
    model = POYO(**HPARAMS).eval()
    model.unit_emb.initialize_vocab(inputs["vocab/unit"][1:].tolist())
    model.session_emb.initialize_vocab(inputs["vocab/session"][1:].tolist())
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if f"param/{name}" in inputs:
                tensor.copy_(torch.from_numpy(inputs[f"param/{name}"]))
    return model


def make_batch(model: POYO, inputs: Arrays) -> tuple[Arrays, dict[str, torch.Tensor]]:
    """Tokens of each window before padding, as arrays "tok/<i>/<name>", and the padded batch of all
    windows.
    """
    tokens, samples = {}, []
    for i in range(len(WINDOWS)):
        raw = {
            key: inputs[f"raw/{i}/{key}"]
            for key in ("unit_ids", "spike_unit_index", "spike_timestamps")
        }
        data = types.SimpleNamespace(
            units=types.SimpleNamespace(id=raw["unit_ids"]),
            spikes=types.SimpleNamespace(
                unit_index=raw["spike_unit_index"], timestamps=raw["spike_timestamps"]
            ),
            session=types.SimpleNamespace(id=str(inputs[f"raw/{i}/session_id"])),
        )
        sample = model.tokenize(data)
        tokens |= {
            f"tok/{i}/{key}": np.asarray(getattr(value, "obj", value))
            for key, value in sample.items()
        }
        queries = {
            key: inputs[f"raw/{i}/{key}"] for key in ("output_timestamps", "target", "weights")
        }
        queries["output_mask"] = np.ones(len(queries["weights"]), bool)
        samples.append(sample | {key: pad8(value) for key, value in queries.items()})
    return tokens, collate(samples)


def predict(model: POYO, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**{key: value for key, value in batch.items() if key not in ("target", "weights")})


def mse(predictions: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    valid = batch["output_mask"]
    return (predictions - batch["target"])[valid].square().mean()


def weighted_mse(predictions: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over channels, times the query's weight, over the sum of weights."""
    valid = batch["output_mask"]
    weights = batch["weights"][valid]
    return (
        (predictions - batch["target"])[valid].square().mean(-1) * weights
    ).sum() / weights.sum()


def to_float(
    batch: dict[str, torch.Tensor], dtype: torch.dtype, keys: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    """The batch with its floating arrays, or only those named, in another precision."""
    keys = keys or tuple(key for key, value in batch.items() if value.is_floating_point())
    return {key: value.to(dtype) if key in keys else value for key, value in batch.items()}


def tiny_outputs(inputs: Arrays) -> Arrays:
    """Tokens, predictions, latents, losses and gradients of the tiny model."""
    model = new_model(inputs)
    arrays, batch = make_batch(model, inputs)
    arrays |= {f"batch/{key}": value.numpy() for key, value in batch.items()}
    arrays["param/rotary_emb.omega"] = model.rotary_emb.omega.numpy()

    latents = {}
    hooks = (model.enc_ffn, "enc"), (model.proc_layers[-1][1], "proc")
    handles = [module.register_forward_hook(keep_sum(latents, name)) for module, name in hooks]
    arrays["out/f64ts"] = predict(model, batch).detach().numpy()
    for handle in handles:
        handle.remove()
    arrays |= {f"inter/{name}_latents": value for name, value in latents.items()}

    float32_times = to_float(batch, torch.float32, TIME_KEYS)
    predictions = predict(model, float32_times)
    arrays |= {
        "out/f32ts": predictions.detach().numpy(),
        "loss/mse_f32ts": mse(predictions, batch).detach().numpy(),
    }
    for name, loss in (("mse", mse), ("weighted", weighted_mse)):
        model.zero_grad()
        value = loss(predict(model, batch), batch)
        value.backward()
        arrays[f"loss/{name}"] = value.detach().numpy()
        arrays |= {
            f"grad_{name}/{key}": tensor.grad.numpy().copy()
            for key, tensor in model.named_parameters()
        }

    batch, model = to_float(batch, torch.float64), model.double()
    predictions = predict(model, batch).detach()
    return arrays | {
        "out/f64model": predictions.numpy(),
        "loss/mse_f64model": mse(predictions, batch).numpy(),
    }


def keep_sum(latents: Arrays, name: str):
    """A hook for a residual branch: keeps its input plus its output. Dropout after the branch is
    off.
    """

    def hook(_module, args, output):
        latents[name] = (args[0] + output).detach().numpy()

    return hook


def train_outputs(inputs: Arrays, sparse_lamb: type[torch.optim.Optimizer]) -> Arrays:
    """Losses and weights of whole training steps on one batch, without dropout."""
    model = new_model(inputs)
    _, batch = make_batch(model, inputs)
    tables = [model.unit_emb.weight, model.session_emb.weight]
    others = [
        tensor for tensor in model.parameters() if all(tensor is not table for table in tables)
    ]
    groups = [{"params": tables, "sparse": True}, {"params": others}]
    optimizer = sparse_lamb(groups, lr=TRAINING["lr"], weight_decay=TRAINING["weight_decay"])
    schedule = {key: TRAINING[key] for key in ("total_steps", "pct_start", "div_factor")}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=TRAINING["lr"], **schedule)
    arrays, losses = {}, []
    for step in range(1, TRAINING["num_steps"] + 1):
        optimizer.zero_grad()
        loss = weighted_mse(predict(model, batch), batch)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        if step in KEPT_STEPS:
            arrays |= {
                f"step{step}/{name}": tensor.detach().numpy().copy()
                for name, tensor in model.named_parameters()
            }
    return arrays | {"loss": np.array(losses), "meta": np.array(json.dumps(TRAINING))}


# --- optimiser, schedule, rotary


def sparse_lamb_outputs(inputs: Arrays, sparse_lamb: type[torch.optim.Optimizer]) -> Arrays:
    """Parameters, moments, norms and trust ratios after each of five steps, for every case."""
    arrays = {}
    for case, settings in LAMB_CASES.items():
        tensors = {
            name: torch.from_numpy(inputs[f"{case}/param0/{name}"].copy()) for name in LAMB_SHAPES
        }
        groups = [{"params": [tensor], "sparse": name == "emb"} for name, tensor in tensors.items()]
        optimizer = sparse_lamb(groups, **settings)
        for step in range(1, len(LAMB_ROWS_WITHOUT_GRADIENT) + 1):
            for name, tensor in tensors.items():
                tensor.grad = torch.from_numpy(inputs[f"grads/{name}"][step - 1].copy())
            optimizer.step()
            for name, tensor in tensors.items():
                arrays[f"{case}/param{step}/{name}"] = tensor.numpy().copy()
                for key in ("exp_avg", "exp_avg_sq", "weight_norm", "adam_norm", "trust_ratio"):
                    value = torch.as_tensor(optimizer.state[tensor][key], dtype=torch.float32)
                    arrays[f"{case}/{key}{step}/{name}"] = value.numpy().copy()
        defaults = dict(betas=[0.9, 0.999], eps=1e-6, clamp_value=10, sparse=["emb"])
        arrays[f"{case}/hp"] = np.array(json.dumps(settings | defaults))
    return arrays


def one_cycle_outputs(sparse_lamb: type[torch.optim.Optimizer]) -> Arrays:
    """Learning rate and beta1 in force at each step."""
    arrays = {}
    for num_steps, peak in ONE_CYCLES.items():
        optimizer = sparse_lamb([torch.zeros(1)], lr=peak)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=peak, total_steps=num_steps, pct_start=0.5, div_factor=1
        )
        rows = []
        for step in range(num_steps):
            rows.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
            optimizer.step()
            if step + 1 < num_steps:
                scheduler.step()
        arrays[f"lr/{num_steps}"], arrays[f"beta1/{num_steps}"] = np.array(rows, dtype=np.float64).T
        arrays[f"max_lr/{num_steps}"] = np.array(peak)
    return arrays


def rotary_outputs() -> Arrays:
    """Angular frequencies (rad/s) in torch's float32, and embeddings of times given in float64 and
    in float32.
    """
    times = np.array([0.0, 1e-4, 0.0625, 0.5, 0.9375, 1.0, *np.random.default_rng(0).random(26)])
    arrays = {"t": times}
    for head_dim in OMEGA_HEAD_DIMS:
        rotary = RotaryTimeEmbedding(
            head_dim=head_dim, rotate_dim=head_dim // 2, t_min=1e-4, t_max=2.0627
        )
        arrays[f"omega/{head_dim}"] = rotary.omega.numpy()
        if head_dim in EMBEDDED_HEAD_DIMS:
            arrays[f"emb_f64/{head_dim}"] = rotary(torch.from_numpy(times)).numpy()
            arrays[f"emb_f32/{head_dim}"] = rotary(torch.from_numpy(times).float()).numpy()
    return arrays


# --- files


def make_files(
    sparse_lamb: type[torch.optim.Optimizer], source: Path | None = None
) -> Iterator[tuple[str, Arrays]]:
    """Name and arrays of every file; inputs come from the files in `source` when given, else from
    the seed.
    """
    rng = np.random.default_rng(SEED)
    tiny = read_tiny_inputs(source / "poyo_tiny.npz") if source else tiny_inputs(rng)
    lamb = read_arrays(source / "sparse_lamb.npz") if source else sparse_lamb_inputs(rng)
    lamb = {
        key: value for key, value in lamb.items() if key.startswith("grads/") or "/param0/" in key
    }
    versions = {
        "torch": torch.__version__,
        "torch_brain": importlib.metadata.version("torch_brain"),
    }
    conventions = {"layernorm_eps": 1e-5, "gelu": "exact erf", "mode": "eval (no dropout)"}
    meta = {
        "meta": np.array(json.dumps({"hparams": HPARAMS, "seed": SEED} | versions | conventions))
    }
    yield "poyo_tiny.npz", tiny | tiny_outputs(tiny) | meta
    yield "train5.npz", train_outputs(tiny, sparse_lamb)
    yield "sparse_lamb.npz", lamb | sparse_lamb_outputs(lamb, sparse_lamb)
    yield "onecycle.npz", one_cycle_outputs(sparse_lamb)
    yield "rotary.npz", rotary_outputs()


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def read_tiny_inputs(path: Path) -> Arrays:
    """The inputs in a poyo_tiny.npz; queries, targets and weights are taken from its padded
    batch.
    """
    arrays = read_arrays(path)
    inputs = {
        key: value for key, value in arrays.items() if key.startswith(("param/", "raw/", "vocab/"))
    }
    for i, valid in enumerate(arrays["batch/output_mask"]):
        for key in ("output_timestamps", "target", "weights"):
            inputs[f"raw/{i}/{key}"] = arrays[f"batch/{key}"][i][valid]
    return inputs


def differences(made: Arrays, found: Arrays) -> dict[str, float]:
    """Largest absolute difference per group of arrays that both have; infinite where shape or type
    differ.
    """
    worst = {}
    for key in sorted(made.keys() & found.keys()):
        ours, theirs = made[key], found[key]
        group = key.split("/")[0]
        if ours.dtype.kind in "US":
            difference = (
                0.0 if key.endswith(("meta", "hp")) or np.array_equal(ours, theirs) else np.inf
            )
        elif ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            difference = np.inf
        else:
            difference = float(
                np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0)
            )
        worst[group] = max(worst.get(group, 0.0), difference)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--optim", type=Path, required=True, help="torch_brain/optim.py of torch_brain 0.1.2"
    )
    parser.add_argument(
        "--check",
        type=Path,
        help="folder: recompute from the inputs in its files, and write nothing",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(__file__).resolve().parent
    for name, arrays in make_files(load_sparse_lamb(arguments.optim), arguments.check):
        if arguments.check:
            found = read_arrays(arguments.check / name)
            print(f"{name}: {len(arrays.keys() & found.keys())} of {len(arrays)} arrays compared")
            for group, difference in differences(arrays, found).items():
                print(f"  {group:<14} max difference {difference:.3g}")
        else:
            np.savez_compressed(folder / name, **arrays)
            print(f"{name}: {len(arrays)} arrays, {(folder / name).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
