"""Every setting and its default, as frozen dataclasses, split by what a change invalidates."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from poyo_jax.checks import NOT_NEGATIVE, POSITIVE, SEED, check_fields, integer, number
from poyo_jax.errors import ConfigError, suggest

BackEnd = Literal["auto", "xla", "chunked", "cudnn", "splash"]
Remat = Literal["auto", "none", "attention", "products", "layers"]
ShortIntervals = Literal["widen", "drop"]
Layout = Literal["packed", "padded"]
OptimizerName = Literal["sparse_lamb", "adamw", "muon"]
UnitStart = Literal["random", "tuning"]
ComputeDtype = Literal["float32", "bfloat16"]

# Far above what anyone needs: larger numbers are mistakes, or ask for all memory of the machine.
WIDEST = 65_536
LONGEST_WINDOW = 3600  # s
MOST_LATENTS = 4_096  # of a window
LARGEST_HEAD = 1024  # channels of a head of attention; a head of the paper has 64
MOST_MEMBERS = 100  # of an ensemble; more than a dozen decode hardly better
COUNT = integer(1)
SIZE = integer(1, WIDEST)
BATCH_SIZE = integer(1, 2**20)
BELOW_ONE = number(at_least=0, below=1)
SHARE = number(at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """One of the outputs of a model.

    After a change of anything but the weight, trained parameters cannot be used.
    """

    name: str
    """Name, by which the readouts of sessions say that they are this output: letters, digits, _."""
    task: str = "poyo_jax.tasks:Regression"
    """Import path, "module:Class", of how the output is trained and scored (poyo_jax.tasks)."""
    num_channels: int = 2
    """Components of the decoded behaviour, or number of classes."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the head's columns; none for other tasks."""
    weight: float = 1.0
    """Weight of the output in the loss."""

    def __post_init__(self):
        check_fields(self, num_channels=SIZE, weight=NOT_NEGATIVE)
        named = isinstance(self.name, str) and re.fullmatch(r"[A-Za-z0-9_]+", self.name) is not None
        require(self, "name", named, "letters, digits and _")
        require(self, "task", isinstance(self.task, str), "an import path 'module:Class'")
        texts = all(isinstance(name, str) for name in self.classes)
        expected = f"{self.num_channels} different names, one for every channel, or none"
        distinct = len(set(self.classes)) == len(self.classes)
        sound = texts and distinct and len(self.classes) in (0, self.num_channels)
        require(self, "classes", sound, expected)


ONLY = "behaviour"  # name of the output that ModelConfig.task and num_channels describe


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model. A change invalidates the weights."""

    dim: int = 64
    """Width of tokens and latents."""
    depth: int = 6
    """Number of processor layers."""
    head_dim: int = 64
    """Width of an attention head; half of it rotates with time."""
    cross_heads: int = 2
    """Heads of the encoder's and the decoder's attention."""
    self_heads: int = 8
    """Heads of the processor's attention."""
    num_latents: int = 16
    """Learned latents at each step of the time grid."""
    latent_step: float = 0.125
    """Step of the latents' time grid, s."""
    window_length: float = 1.0
    """Length of a window, s; a multiple of latent_step."""
    num_channels: int = 2
    """Components of the decoded behaviour."""
    task: str = "poyo_jax.tasks:Regression"
    """Import path, "module:Class", of how the output is trained and scored (poyo_jax.tasks)."""
    outputs: tuple[OutputConfig, ...] = ()
    """What the model decodes, if it is more than the one output that num_channels and task
    describe, or has a name or classes; these then do not count (poyo_jax.with_outputs).
    """
    processor: str = "poyo_jax.model.processor:Transformer"
    """Import path, "module:Class", of what is between encoder and decoder
    (model/choose_processor.py).
    """
    frequencies: tuple[float, ...] | None = None
    """Angular frequencies of the rotary time embedding, rad/s, one for every 4 channels of a head;
    None takes those of periods from 1e-4 to 2.0627 s. Models of torch_brain from before June 2025
    bring slightly others.
    """
    feedforward_dropout: float = 0.2
    """Dropout inside feed-forward blocks."""
    residual_dropout: float = 0.4
    """Dropout of what a processor layer adds to the residual stream."""
    attention_dropout: float = 0.2
    """Dropout of attention weights."""
    members: int = 1
    """Members of an ensemble: so many models of these sizes, which differ in their random start and
    dropout, learn from the same batches, and whose predictions are averaged.
    """

    def __post_init__(self):
        check_fields(
            self,
            dim=SIZE,
            depth=integer(1, 1000),
            head_dim=integer(1, LARGEST_HEAD),
            cross_heads=SIZE,
            self_heads=SIZE,
            num_latents=SIZE,
            num_channels=SIZE,
            members=integer(1, MOST_MEMBERS),
            latent_step=NOT_NEGATIVE,
            window_length=number(above=0, at_most=LONGEST_WINDOW),
            feedforward_dropout=BELOW_ONE,
            residual_dropout=BELOW_ONE,
            attention_dropout=BELOW_ONE,
        )
        for name in ("task", "processor"):
            is_path = isinstance(getattr(self, name), str)
            require(self, name, is_path, "an import path 'module:Class'")
        self._check_outputs()
        self._check_head()
        self._check_grid()

    def _check_outputs(self) -> None:
        sound = isinstance(self.outputs, tuple) and all(
            isinstance(output, OutputConfig) for output in self.outputs
        )
        require(self, "outputs", sound, "a tuple of OutputConfig")
        names = [output.name for output in self.outputs]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigError(
                f"ModelConfig.outputs has two outputs with the name {twice[0]!r}. Give each a name"
                " of its own."
            )
        if len(self.outputs) != 1:
            return
        (output,) = self.outputs
        for field_name in ("num_channels", "task"):
            wanted = getattr(output, field_name)
            default = ModelConfig.__dataclass_fields__[field_name].default
            agrees = getattr(self, field_name) in (default, wanted)
            expected = f"left out, or {wanted!r} as in ModelConfig.outputs"
            require(self, field_name, agrees, expected)
            object.__setattr__(self, field_name, wanted)

    @property
    def all_outputs(self) -> tuple[OutputConfig, ...]:
        """What the model decodes: `outputs`, or the one that `task` and `num_channels` describe."""
        if self.outputs:
            return self.outputs
        return (OutputConfig(name=ONLY, task=self.task, num_channels=self.num_channels),)

    def _check_head(self) -> None:
        expected = "a multiple of 4, so that half of a head forms pairs"
        require(self, "head_dim", self.head_dim % 4 == 0, expected)
        count = self.head_dim // 4
        given = self.frequencies
        sound = given is None or (
            isinstance(given, tuple) and len(given) == count and all(map(POSITIVE.allows, given))
        )
        require(self, "frequencies", sound, f"None or {count} positive numbers")

    def _check_grid(self) -> None:
        steps = self.window_length / self.latent_step if self.latent_step > 0 else 0
        steps = steps if math.isfinite(steps) else 0
        whole = math.isclose(steps, round(steps), rel_tol=1e-9) and round(steps) >= 1
        expected = f"a positive multiple of latent_step = {self.latent_step} s"
        require(self, "window_length", whole, expected)
        latents = self.num_latent_steps * self.num_latents
        expected = (
            f"shorter: with latent_step = {self.latent_step} s and num_latents = {self.num_latents}"
            f" a window has {latents} latents, and {MOST_LATENTS} are the most"
        )
        require(self, "window_length", latents <= MOST_LATENTS, expected)

    @property
    def num_latent_steps(self) -> int:
        """Steps of the time grid in a window."""
        return round(self.window_length / self.latent_step)

    @property
    def latent_times(self) -> np.ndarray:
        """Times of all latents [latents] in s from the start of the window, float64.

        They are the centres of the steps of the grid.
        """
        centres = (np.arange(self.num_latent_steps) + 0.5) * self.latent_step
        return np.repeat(centres, self.num_latents)


@dataclass(frozen=True, kw_only=True)
class UnitDropoutConfig:
    """Distribution of the number of units that a training window keeps.

    The number is drawn between min and max, with linear flanks on both sides of the mode.
    """

    min_units: int = 20
    """Never keep fewer units than this (unless the recording has fewer)."""
    mode_units: int = 100
    """The likeliest number of units to keep."""
    max_units: int = 300
    """Never keep more than this."""
    peak: float = 4.0
    """Height of the mode against the tails."""

    def __post_init__(self):
        check_fields(self, min_units=COUNT, mode_units=COUNT, max_units=COUNT, peak=POSITIVE)
        least, most = self.min_units, self.max_units
        ordered = least <= self.mode_units <= most and least < most
        expected = f"between min_units = {least} and max_units = {most}"
        require(self, "mode_units", ordered, expected)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Settings of the windows in a step. A change invalidates the order of the batches."""

    batch_size: int = 128
    """Windows of one step, over all devices and processes."""
    seed: int = 0
    """Decides windows, their order, and unit dropout."""
    unit_dropout: UnitDropoutConfig | None = field(default_factory=UnitDropoutConfig)
    """Training windows keep a random part of the units; None keeps all."""
    spike_dropout: float = 0.0
    """Training windows lose up to this share of their spikes, each window a share of its own."""
    spike_jitter: float = 0.0
    """Standard deviation of the noise on spike times in training windows, s."""
    query_jitter: float = 0.0
    """Queries of training windows move by up to this share of the way to the next one, with
    interpolated targets.
    """
    max_queries: int | None = None
    """Training windows ask for at most so many of their samples, drawn anew in each: behaviour
    sampled at 1 kHz costs as much as at 100 Hz, and counts as much. None asks for all.
    """
    end_weight: float = 1.0
    """Weight of the samples in the last 0.1 s of a training window, on top of that of the readout.
    Above 1 for models that decode in real time: they use no others.
    """
    short_intervals: ShortIntervals = "widen"
    """Treatment of training intervals shorter than a window. "widen": the window reaches over their
    ends, and samples outside are not trained on. "drop": they are left out, as in the reference.
    """
    layout: Layout = "packed"
    """Tokens in densely packed chunks, or every window padded to the longest (the plain reference
    path).
    """
    chunk_tokens: int = 256
    """Tokens of a packed chunk, or the multiple to which padded windows are rounded."""

    def __post_init__(self):
        check_fields(
            self,
            batch_size=BATCH_SIZE,
            seed=SEED,
            spike_dropout=BELOW_ONE,
            spike_jitter=NOT_NEGATIVE,
            query_jitter=SHARE,
            end_weight=number(above=0, at_most=1000),
            max_queries=integer(1, or_none=True),
            chunk_tokens=integer(8, WIDEST),
        )
        require_kind(self, "unit_dropout", UnitDropoutConfig, or_none=True)
        _require_choice(self, "short_intervals", ShortIntervals)
        _require_choice(self, "layout", Layout)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Settings of the optimiser. A change invalidates the optimiser state."""

    name: OptimizerName | str = "sparse_lamb"
    """The reference's LAMB with sparse embedding updates; or, with warm-up, AdamW, or Muon for
    matrices and Adam for the rest; or the import path, "module:Class", of another optimiser
    (train/optim/choose.py).
    """
    learning_rate: float = 4e-3
    """Peak learning rate of an update; another batch size may need another rate."""
    weight_decay: float = 1e-4
    """Decoupled weight decay."""
    pct_start: float = 0.5
    """Share of the steps at the constant peak rate before the cosine decay (sparse_lamb)."""
    warmup_steps: int = 100
    """Steps of linear warm-up (adamw, muon)."""
    hold: float = 0.0
    """Share of the steps after the warm-up at the peak rate before the cosine decay (adamw,
    muon).
    """
    clip_norm: float | None = None
    """Clip the gradient to this global norm."""
    accumulate_steps: int = 1
    """Steps whose gradients are averaged before the parameters move; the steps after the last full
    set move nothing.
    """
    unit_start: UnitStart = "random"
    """Start of the unit embeddings. "random": independent of the data. "tuning": units with similar
    tuning in the train split start close to each other.
    """

    def __post_init__(self):
        names = get_args(OptimizerName)
        is_path = isinstance(self.name, str) and ":" in self.name
        expected = f"{', '.join(map(repr, names))} or an import path 'module:Class'"
        require(self, "name", self.name in names or is_path, expected)
        check_fields(
            self,
            learning_rate=POSITIVE,
            weight_decay=NOT_NEGATIVE,
            pct_start=number(above=0, below=1),
            warmup_steps=integer(0),
            hold=BELOW_ONE,
            clip_norm=number(above=0, or_none=True),
            accumulate_steps=COUNT,
        )
        _require_choice(self, "unit_start", UnitStart)


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Arrangement of the devices of all processes.

    All devices share the windows of a batch; parameters are divided along fsdp.
    """

    data: int = -1
    """Devices along the axis on which parameters are repeated; -1 takes all that are left."""
    fsdp: int = 1
    """Devices among which each parameter and its optimiser state are divided."""

    def __post_init__(self):
        check_fields(self, data=integer(-1), fsdp=COUNT)
        expected = "at least 1, or -1 for all devices that are left"
        require(self, "data", self.data != 0, expected)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of the execution of the run. A change invalidates nothing."""

    num_steps: int = 1000
    """Steps of the whole run; the learning-rate schedule ends here."""
    log_every: int = 20
    """Steps between two lines of metrics."""
    eval_every: int = 500
    """Steps between two evaluations on the validation split."""
    save_every: int = 500
    """Steps between two checkpoints, beside those that every evaluation saves."""
    save_minutes: float | None = 15.0
    """A checkpoint is saved at least every so many minutes; None counts steps alone."""
    keep_checkpoints: int = 3
    """Newest checkpoints to keep; older ones make room, but for the one with the best validation
    score.
    """
    keep_every: int | None = None
    """Checkpoints whose step is a multiple of this are saved and stay for good."""
    watchdog_minutes: float = 10.0
    """A step, or a wait for data, that takes longer counts as hung and ends the process; saving and
    compiling may take six times as long.
    """
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Arrangement of the devices."""
    compute_dtype: ComputeDtype = "float32"
    """Of matrix products and activations; parameters, softmax, phases and loss are float32."""
    attention: BackEnd = "auto"
    """How attention is computed: with its scores in memory (xla), in chunks (chunked), by the flash
    attention of NVIDIA GPUs (cudnn) or TPUs (splash), which cannot drop attention weights, or by
    what fits the platform (auto).
    """
    remat: Remat = "auto"
    """Activations of a processor layer that the backward pass computes again instead of storing.
    "none": no activation. "attention": all but the result of attention. "products": all but
    products with weights. "layers": all, for the least memory and a third more time. "auto":
    "attention" on TPUs, "none" elsewhere.
    """
    microbatch_windows: int | None = None
    """Windows that pass the processor at the same time on one device; None chooses by the platform
    and the memory of the device (model/hardware.py).
    """
    rows_per_group: int | None = None
    """Packed token rows that are attended at the same time on one device, where attention is
    chunked. None chooses by the platform (model/hardware.py).
    """
    num_workers: int = 0
    """Processes that prepare batches; 0 prepares them in a thread of the trainer."""

    def __post_init__(self):
        check_fields(
            self,
            num_steps=COUNT,
            log_every=COUNT,
            eval_every=COUNT,
            save_every=COUNT,
            save_minutes=number(above=0, or_none=True),
            keep_checkpoints=COUNT,
            keep_every=integer(1, or_none=True),
            watchdog_minutes=POSITIVE,
            microbatch_windows=integer(1, or_none=True),
            rows_per_group=integer(1, or_none=True),
            num_workers=integer(0),
        )
        require_kind(self, "mesh", MeshConfig)
        _require_choice(self, "compute_dtype", ComputeDtype)
        _require_choice(self, "attention", BackEnd)
        _require_choice(self, "remat", Remat)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    data: DataConfig = field(default_factory=DataConfig)
    """The windows of a step."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    run: RunConfig = field(default_factory=RunConfig)
    """How the run is carried out."""

    def __post_init__(self):
        for name in ("model", "data", "optim", "run"):
            require_kind(self, name, _NESTED[name])


def from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """Rebuild a configuration of class `kind` from `dataclasses.asdict`.

    Raises ConfigError for an unknown field.
    """
    if kind is Config:
        values = _with_peak_rate(values)
    names = [item.name for item in dataclasses.fields(kind)]
    for name in values:
        if name not in names:
            raise ConfigError(
                f"{kind.__name__} has no field {name!r}.{suggest(name, names)} The configuration"
                " may have been written by a newer version of poyo_jax; update the package."
            )
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    for name, nested in _NESTED.items():
        if isinstance(values.get(name), Mapping):
            values[name] = from_dict(nested, values[name])
    if kind is ModelConfig and "outputs" in values:
        values["outputs"] = tuple(from_dict(OutputConfig, each) for each in values["outputs"])
    return kind(**values)


def to_dict(config: Config) -> dict[str, Any]:
    """All settings as JSON can hold them, without `outputs` and `members` of models without."""
    values = dataclasses.asdict(config)
    if not config.model.outputs:
        del values["model"]["outputs"]
    if config.model.members == 1:
        del values["model"]["members"]
    return values


def _with_peak_rate(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert a saved run that gives its learning rate per window of an update (format 2)."""
    optim = values.get("optim", {})
    if "base_learning_rate" not in optim:
        return values
    optim = dict(optim)
    batch_size = values.get("data", {}).get("batch_size", DataConfig.batch_size)
    windows = batch_size * optim.get("accumulate_steps", 1)
    optim["learning_rate"] = optim.pop("base_learning_rate") * windows
    return {**values, "optim": optim}


def differences(saved, given, prefix: str = "") -> list[str]:
    """One line for every field in which two configurations of the same class differ."""
    lines = []
    for item in dataclasses.fields(saved):
        old, new = getattr(saved, item.name), getattr(given, item.name)
        if dataclasses.is_dataclass(old) and type(old) is type(new):
            lines += differences(old, new, f"{prefix}{item.name}.")
        elif old != new:
            lines.append(f"{prefix}{item.name}: {old!r} in the run, {new!r} given")
    return lines


_NESTED = {
    "model": ModelConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "run": RunConfig,
    "unit_dropout": UnitDropoutConfig,
    "mesh": MeshConfig,
}


def _require_choice(config, name: str, choices: Any) -> None:
    """Check that the field `name` is one of the values of the Literal `choices`."""
    values = get_args(choices)
    *others, last = map(repr, values)
    require(config, name, getattr(config, name) in values, f"{', '.join(others)} or {last}")


def require_kind(config, name: str, kind: type, *, or_none: bool = False) -> None:
    """Check that the field `name` is a configuration of class `kind`."""
    value = getattr(config, name)
    sound = isinstance(value, kind) or (value is None and or_none)
    require(config, name, sound, f"a {kind.__name__}{' or None' if or_none else ''}")


def require(config, name: str, holds: bool, expected: str) -> None:
    """Check a condition (`holds`) on the field `name` of `config`.

    Raises ConfigError if it is false; the message quotes the field, its value and what was
    `expected`.
    """
    if not holds:
        value = getattr(config, name)
        raise ConfigError(
            f"{type(config).__name__}.{name} is {value!r}; it must be {expected}. Change it and"
            " start again."
        )
