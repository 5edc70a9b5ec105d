"""Set up a fit: labels, readouts, rows, batches, and the model that is scored."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import jax
import numpy as np
from jax.sharding import Mesh

from poyo_jax.checks import check_choice
from poyo_jax.config import DataConfig
from poyo_jax.data.batches.pipeline import EvalBatches, TrainBatches
from poyo_jax.data.batches.tokens import ModelSession
from poyo_jax.data.batches.windows import RandomWindows
from poyo_jax.data.choose_readouts import choose_readouts
from poyo_jax.data.given import check_ids, check_length, check_spikes
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.session import Session
from poyo_jax.data.vocab import Vocab
from poyo_jax.decoding.calibration import calibrations
from poyo_jax.decoding.predict import make_predict_step, predict_sessions
from poyo_jax.decoding.score import mean_scores, score_outputs
from poyo_jax.distributed.mesh import make_mesh
from poyo_jax.errors import ConfigError, DataError, VocabError
from poyo_jax.finetune.labels import labelled_intervals, labelled_readout
from poyo_jax.finetune.outputs import fresh_outputs, with_missing_outputs
from poyo_jax.fit_config import FitConfig
from poyo_jax.model.build import build_model, init_params
from poyo_jax.model.hardware import choose_microbatch, hardware_of
from poyo_jax.model.poyo import POYO
from poyo_jax.pretrained import Pretrained
from poyo_jax.tasks import Gaussian, Metric
from poyo_jax.tasks.choose import choosing_metric, tasks_of
from poyo_jax.types import Batch, Prediction, Readout, Readouts, each_readout

FEWEST_WINDOWS = 8  # of each session, by which starts are compared

logger = logging.getLogger(__name__)

Known = Literal["refuse", "refit"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FitSetup:
    """Everything that stays the same during a fit.

    The fitted tables hold padding and the rows of the given sessions alone, in the order of `units`
    and `sessions`. `add_fitted_rows` copies them into the tables of the model.
    """

    config: FitConfig
    pretrained: Pretrained  # the model to adapt; with random weights if config.fresh
    new_heads: Sequence[str]  # parts of the backbone that belong to outputs the model lacked
    metric: Metric  # by which the model is chosen
    units: Vocab  # of the given sessions
    sessions: Vocab
    readouts: Mapping[str, Readouts]  # by session id
    train: Sequence[ModelSession]  # the given sessions, with their labels
    valid: Sequence[ModelSession]  # those that have a valid split
    label_seconds: float  # over all sessions
    data: DataConfig
    batches: TrainBatches
    mesh: Mesh
    model: POYO

    @property
    def microbatch(self) -> int | None:
        """Number of windows that pass the processor at the same time; None means all."""
        config = self.pretrained.config
        return choose_microbatch(config.model, config.run, hardware_of(self.mesh))

    @property
    def predict_step(self) -> Callable[[dict, Batch], jax.Array]:
        """The compiled prediction step (`make_predict_step`); the same function at each access."""
        return make_predict_step(self.model, self.mesh, microbatch_windows=self.microbatch)

    def first_look(self) -> list[Batch]:
        """Batches to compare starts by, with equally many windows of each session.

        They are of its valid split, or of its labels where there is none: rows that start from
        tuning were made with the labels, and decode those too well.
        """
        valid = {source.session.id: source for source in self.valid}
        sources = [valid.get(source.session.id, source) for source in self.train]
        window_length = self.pretrained.config.model.window_length
        numbers = np.arange(max(FEWEST_WINDOWS, self.data.batch_size // len(sources)))
        starts = []
        for source in sources:
            intervals, domains = [source.intervals], [source.session.domain]
            drawn = RandomWindows(intervals, domains, window_length, self.data.seed, widen=True)
            starts.append(drawn.at(numbers)[1])
        batches = EvalBatches(sources, starts, self.data, window_length, jax.local_device_count())
        return [batches[number] for number in range(len(batches))]

    def valid_scores(self, params: dict) -> dict[str, float]:
        """Mean scores of the valid splits by key; NaN if there is none.

        That of `metric` is one of them.
        """
        if not self.valid:
            return {self.metric.key("valid"): math.nan}
        scores = score_outputs(self.decode_valid(params), self.valid)
        return mean_scores(scores, self.pretrained.config.model)

    def calibration(self, params: dict) -> dict[str, tuple[float, ...]]:
        """Factors of learned standard deviations, by output; none without a valid split."""
        model = self.pretrained.config.model
        learned = [task for task in tasks_of(model) if isinstance(task, Gaussian)]
        return calibrations(self.decode_valid(params)) if learned and self.valid else {}

    def decode_valid(self, params: dict) -> list[list[Prediction]]:
        """Predictions of every session of `valid` and its outputs."""
        window_length = self.pretrained.config.model.window_length
        return predict_sessions(
            self.predict_step, params, self.valid, self.data, window_length, self.mesh
        )


def set_up(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    config: FitConfig,
    readouts: Mapping[str, Readouts],
    known: Known,
) -> FitSetup:
    """Set up a fit. Arguments and errors are those of `finetune`."""
    _check(pretrained, sessions, known)
    window_length = pretrained.config.model.window_length
    units = Vocab(name for session in sessions for name in session.unit_names)
    vocab = Vocab(session.id for session in sessions)
    labels = _labels(sessions, config, window_length)
    wanted = _readouts(pretrained, sessions, labels, readouts)
    if config.fresh:
        grown = fresh_outputs(pretrained, sessions, wanted)
        pretrained, new_heads = _fresh(grown, config.seed), ()
    else:
        pretrained, new_heads = with_missing_outputs(pretrained, sessions, wanted, config)
    model_config = pretrained.config.model
    chosen = choose_readouts(sessions, wanted, model_config)

    def source(session: Session, intervals: Intervals) -> ModelSession:
        of_session = chosen[session.id]
        return ModelSession.build(session, of_session, units, vocab, intervals, model_config)

    train = [source(session, labels[session.id]) for session in sessions]
    validated = [session for session in sessions if session.has_split("valid")]
    data = _data_config(pretrained, config)
    run = pretrained.config.run
    return FitSetup(
        config=config,
        pretrained=pretrained,
        new_heads=new_heads,
        metric=choosing_metric(model_config),
        units=units,
        sessions=vocab,
        readouts=chosen,
        train=train,
        valid=[source(session, session.split("valid")) for session in validated],
        label_seconds=sum(intervals.duration for intervals in labels.values()),
        data=data,
        batches=TrainBatches(
            train, data, window_length, config.num_steps, jax.local_device_count()
        ),
        mesh=make_mesh(),
        model=build_model(model_config, run, units.num_rows, vocab.num_rows),
    )


def _check(pretrained: Pretrained, sessions: Sequence[Session], known: Known) -> None:
    if jax.process_count() > 1:
        raise ConfigError(
            f"a fit runs in one process, but jax sees {jax.process_count()} of them. Start a single"
            " process; it may have several devices."
        )
    if not sessions:
        raise DataError("there are no sessions to fit. Give at least one.")
    check_choice("known", known, get_args(Known))
    for session in sessions:
        check_length(session, pretrained.config.model.window_length)
        check_spikes(session)
        if session.id in pretrained.sessions and known == "refuse":
            raise VocabError(
                f"the model knows session {session.id!r} already. Decode it directly, fit its rows"
                " again with known='refit', or give the new session another id."
            )
        num_units = len(session.unit_ids)
        num_silent = num_units - len(np.unique(session.spikes_between(-np.inf, np.inf)[1]))
        if num_silent:
            logger.info("%d of %d units of %s never spike", num_silent, num_units, session.id)


def _labels(
    sessions: Sequence[Session], config: FitConfig, window_length: float
) -> dict[str, Intervals]:
    """Labelled intervals, by session id."""
    return {
        session.id: labelled_intervals(
            session,
            window_length,
            num_seconds=config.num_labelled_seconds,
            num_trials=config.num_trials,
            seed=config.seed,
        )
        for session in sessions
    }


def _readouts(
    pretrained: Pretrained,
    sessions: Sequence[Session],
    labels: Mapping[str, Intervals],
    given: Mapping[str, Readouts],
) -> dict[str, Readouts]:
    """Readouts by session id: the given ones, those the model has, or measured ones."""
    chosen = {}
    for session in sessions:
        if session.id in pretrained.readouts:
            chosen[session.id] = pretrained.readouts[session.id]
        elif session.id not in given:
            similar = _readouts_of_data_set(pretrained, session)
            measured = labelled_readout(session, labels[session.id], similar)
            chosen[session.id] = _named_as_known(pretrained, measured)
    check_ids(sessions, given, "a readout")
    return chosen | dict(given)


def _named_as_known(pretrained: Pretrained, readout: Readout) -> Readout:
    """The readout with the name that known sessions give to the same behaviour."""
    known = [each for given in pretrained.readouts.values() for each in each_readout(given)]
    names = {each.name for each in known if each.value_key == readout.value_key}
    return replace(readout, name=names.pop()) if len(names) == 1 else readout


def _readouts_of_data_set(pretrained: Pretrained, session: Session) -> list[Readout]:
    """Readouts of known sessions of the same data set."""
    if not session.brainset_id:
        return []
    prefix = f"{session.brainset_id}/"
    similar = [given for name, given in pretrained.readouts.items() if name.startswith(prefix)]
    return [readout for given in similar for readout in each_readout(given)]


def _data_config(pretrained: Pretrained, config: FitConfig) -> DataConfig:
    data = pretrained.config.data
    return replace(
        data,
        batch_size=config.batch_size,
        seed=config.seed,
        unit_dropout=config.unit_dropout,
        short_intervals="widen",
        chunk_tokens=config.chunk_tokens or data.chunk_tokens,
    )


def _fresh(pretrained: Pretrained, seed: int) -> Pretrained:
    """A model of the same size with random weights and no units or sessions."""
    model = build_model(pretrained.config.model, pretrained.config.run, 1, 1)
    params = jax.jit(init_params, static_argnums=(0, 1))(model, seed)
    return replace(
        pretrained,
        params=params,
        units=Vocab(),
        sessions=Vocab(),
        readouts={},
        metrics={},
        step=0,
        tuning=None,
        fit=None,
        calibration={},
        session_calibration={},
    )
