"""How decoding grows with the labelled data: one fit for every amount."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from poyo_jax.data.readout import Readout
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import evaluate
from poyo_jax.errors import DataError
from poyo_jax.finetune.fit import finetune
from poyo_jax.finetune.strategies import choose
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained

AMOUNTS = (10.0, 30.0, 100.0, None)


@dataclass(frozen=True)
class FewShot:
    """A fit on a part of the train split."""

    num_seconds: float | None  #: labelled; None for all of the train split
    seed: int  #: by which they were drawn
    steps: int  #: made until the fit stopped
    valid_r2: float  #: R2 of the valid split
    test_r2: float  #: R2 of the test split


def few_shot_curve(
    pretrained: Pretrained,
    session: Session,
    strategy: str | FitConfig = "unit_identification",
    *,
    amounts: Sequence[float | None] = AMOUNTS,
    seeds: Sequence[int] = (0,),
    readouts: Mapping[str, Readout] | None = None,
    progress: bool = True,
) -> list[FewShot]:
    """Fit `amounts` of labelled seconds (None: all), drawn by each seed, and decode the test split
    after each.

    Amounts that the train split does not hold are left out. The valid split, which decides when a
    fit stops, stays labelled. Raises DataError when no amount is left, and what `finetune` raises.
    """
    held = session.split("train").duration
    fitting = [amount for amount in amounts if amount is None or amount <= held]
    if not fitting:
        raise DataError(
            f"the train split of session {session.id} has {held:g} s, less than the smallest of the"
            f" amounts {', '.join(f'{amount:g}' for amount in amounts if amount)} s. Give smaller"
            " ones, or None for all of it."
        )
    results = []
    for amount in fitting:
        for seed in seeds:
            config = replace(
                choose(strategy), num_labelled_seconds=amount, num_trials=None, seed=seed
            )
            fit = finetune(pretrained, [session], config, readouts=readouts, progress=progress)
            test_r2 = evaluate(fit.pretrained, [session]).mean
            results.append(
                FewShot(amount, seed, int(fit.history[-1]["step"]), fit.valid_r2, test_r2)
            )
    return results
