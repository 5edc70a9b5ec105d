"""Adapt a model by gradient descent: `finetune` and `fit_units`.

Only parameters that learn have gradients and optimiser state. All others keep their exact bits.
"""

import logging
from collections.abc import Mapping, Sequence

from poyo_jax.data.given import readouts_by_session, session_list
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError
from poyo_jax.finetune.auto import Auto, Given, choose_by_folds, fitting
from poyo_jax.finetune.floor import warn_below_wiener
from poyo_jax.finetune.loop import run_fit
from poyo_jax.finetune.result import FitResult
from poyo_jax.finetune.setup import Known
from poyo_jax.finetune.starts import StartFrom
from poyo_jax.finetune.strategies import STRATEGIES, choose
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained, check_model
from poyo_jax.types import SomeReadouts

logger = logging.getLogger(__name__)


def fit_units(
    pretrained: Pretrained,
    sessions: Session | Sequence[Session],
    config: FitConfig | None = None,
    *,
    readouts: Mapping[str, SomeReadouts] | None = None,
    start_from: StartFrom | None = None,
    known: Known = "refuse",
    keep_snapshots: bool = False,
    progress: bool = True,
) -> FitResult:
    """Identify units: learn the rows of new units and sessions while the backbone stays frozen.

    This is `finetune` with the strategy "unit_identification", or with the given settings;
    arguments and errors are those of `finetune`.
    """
    return finetune(
        pretrained,
        sessions,
        config or STRATEGIES["unit_identification"],
        readouts=readouts,
        start_from=start_from,
        known=known,
        keep_snapshots=keep_snapshots,
        progress=progress,
    )


def finetune(
    pretrained: Pretrained,
    sessions: Session | Sequence[Session],
    strategy: str | FitConfig | Auto = "gradual",
    *,
    readouts: Mapping[str, SomeReadouts] | None = None,
    start_from: StartFrom | None = None,
    known: Known = "refuse",
    keep_snapshots: bool = False,
    progress: bool = True,
) -> FitResult:
    """Adapt a model to sessions by gradient descent on their train splits.

    The given model does not change. Rows of other units and sessions keep their exact bits, and so
    do frozen parameters of the backbone. A session whose readout is an output of the model, by name
    and kind, uses its head; for another output the model gets a new one. A unit that never spikes
    is allowed.

    Every `eval_every` steps the valid splits are decoded. The result has the latest parameters
    whose score, the mean over sessions, misses a perfect one by at most 10 % more than the best: a
    valid split of half a minute cannot resolve smaller differences. A stage ends early after
    `patience` evaluations without such parameters. Sessions without a valid split do not count in
    the mean; if no session has one, the last parameters are returned.

    When the backbone stays frozen and a Wiener filter of the same labels decodes the valid split of
    a session better, a warning in the log says so.

    Args:
        pretrained: the model to adapt.
        sessions: one session, or several that are learned together.
        strategy: a name in STRATEGIES, or settings. "unit_identification" learns the rows of units
            and sessions; "head" also the heads of outputs that the model lacks;
            "unit_identification_paper" learns rows as the authors do; "gradual" learns
            the rows first and then all parameters; "full" all at once; "lora" the rows first and
            then low-rank updates of all matrices, which are added to the weights in the end;
            "from_scratch" a new model of the same size. "auto", or an `Auto`, takes one of
            "unit_identification" ("head", if the model lacks an output), "gradual" and
            "from_scratch" by cross-validation on the labels, which makes ten fits in place of one;
            `FitResult.choice` says which, and why.
        readouts: by session id, one or several replace the session's default readout.
        start_from: trained names from which new units or sessions start, by new name, such as the
            same electrode on another day; or the id of a known session, for its units of the same
            unit id. None also tries the known sessions of the same data set that have units of the
            same ids, and their mean, and takes what decodes the valid split best (the labels,
            without a valid split); {} does not. A new model ("from_scratch") has no such names.
        known: "refuse" a session that the model knows, or "refit" its rows from their present
            values.
        keep_snapshots: keep the parameters of every evaluation, for `FitResult.snapshots` and
            `FitResult.at`.
        progress: show the progress.

    Raises:
        ConfigError: an unknown strategy, a part of the backbone that does not exist, an output that
            the model lacks and the strategy does not learn, or names in `start_from` for a new
            model.
        VocabError: a session that the model knows already, or an unknown name in `start_from`.
        DataError: no sessions, a path instead of a session, an empty train split, too few labels,
            or a behaviour that does not fit the model.
        Diverged: a loss was not finite.
    """
    pretrained, sessions = check_model(pretrained), session_list(sessions)
    given: Given = {
        "readouts": readouts_by_session(readouts),
        "start_from": start_from,
        "known": known,
        "progress": progress,
    }
    choice = None
    if strategy == "auto":
        strategy = Auto()
    if isinstance(strategy, Auto):
        choice = choose_by_folds(pretrained, sessions, strategy, **given)
        strategy = choice.config
        logger.info("%s", choice)
    config = choose(strategy, "auto")
    if config.fresh and start_from and choice is None:
        raise ConfigError(
            "a new model knows no rows from which units could start: leave `start_from` out, or"
            " choose a strategy that adapts the model, such as 'gradual'."
        )
    given = fitting(config, given)
    setup, history = run_fit(pretrained, sessions, config, keep_snapshots=keep_snapshots, **given)
    if history.scores and not config.backbone_rates:
        warn_below_wiener(setup, history.params)
    return FitResult.of(setup, history, choice)
