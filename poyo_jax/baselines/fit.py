"""Tune a baseline on the valid split of a session, and decode its test split."""

from poyo_jax.baselines.kalman import KalmanSearch
from poyo_jax.baselines.linear import LinearSearch
from poyo_jax.baselines.network_search import NetworkSearch
from poyo_jax.baselines.result import BaselineResult
from poyo_jax.baselines.samples import Samples
from poyo_jax.baselines.wiener import WienerSearch
from poyo_jax.checks import SEED, check_number
from poyo_jax.data.given import one_readout, one_session
from poyo_jax.data.readout import default_readout
from poyo_jax.data.session import Session
from poyo_jax.errors import ConfigError, suggest
from poyo_jax.tasks import R2
from poyo_jax.types import Readout

Search = WienerSearch | KalmanSearch | NetworkSearch | LinearSearch
BASELINES: dict[str, Search] = {
    "wiener": WienerSearch(),
    "kalman": KalmanSearch(),
    "mlp": NetworkSearch(network="mlp", hidden=(64, 128)),
    "gru": NetworkSearch(network="gru", hidden=(64, 128)),
}
OTHER_BASELINES: dict[str, Search] = {  # of classes and counts
    "logistic": LinearSearch(model="logistic"),
    "discriminant": LinearSearch(model="discriminant", penalties=(1e-3, 1e-2, 0.1, 0.3)),
    "poisson": LinearSearch(model="poisson"),
}


def fit_baseline(
    name: str,
    session: Session,
    readout: Readout | None = None,
    *,
    search: Search | None = None,
    causal: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> BaselineResult:
    """Choose the settings of a baseline on the valid split, and decode the test split with them.

    Args:
        name: "wiener", "kalman", "mlp" or "gru" for continuous behaviour of any width, "logistic"
            or "discriminant" for classes, "poisson" for counts; the last three need scikit-learn.
        session: a session with train, valid and test splits.
        readout: what is decoded; the default one of the session if None. Of several outputs, fit a
            baseline of each.
        search: what to try, in place of the usual space.
        causal: try only what decodes a sample from the spikes before it.
        seed: decides rates, initial parameters, batches and dropout of the networks.
        progress: show the progress.

    Raises:
        ConfigError: no baseline has that name, or the seed is not one.
        MissingDependencyError: scikit-learn is missing.
        DataError: a readout of another kind; a split without two samples that have targets, or
        without weight in the train split; a session shorter than a window of a second; a train
        split without spikes; targets of the valid split that do not vary, or no trial with a score.
        SessionError: the session lacks the behaviour or an interval that the readout names.
    """
    session = one_session(session)
    check_number("seed", seed, SEED)
    known = BASELINES | OTHER_BASELINES
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            f"there is no baseline {name!r}.{suggest(name, known)} Choose {', '.join(known)}."
        )
    if search is not None and not isinstance(search, Search):
        raise ConfigError(
            f"search is {repr(search)[:80]}; it must be a WienerSearch, KalmanSearch,"
            " NetworkSearch or LinearSearch of poyo_jax.baselines, or None."
        )
    readout = default_readout(session) if readout is None else one_readout(readout)
    search = search or known[name]
    kind = search.kind if isinstance(search, LinearSearch) else "continuous"
    samples = Samples.read(session, readout, kind=kind)
    result = search.run(samples, causal=causal, seed=seed, progress=progress)
    chosen = result.trials[result.best]
    prediction = samples.prediction("test", result.values, result.probabilities)
    metric = samples.metric
    sums = metric.sums(prediction.targets, prediction.values, readout)
    test_score = prediction.r2 if metric is R2 else metric.score(sums)
    return BaselineResult(
        name, chosen.settings, result.trials, chosen.valid_score, prediction, metric, test_score
    )
