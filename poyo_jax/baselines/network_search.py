"""Search over shapes and rates of the MLP and the GRU; the valid split decides when to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from poyo_jax.baselines.grid import Grid
from poyo_jax.baselines.networks import (
    NETWORKS,
    SMALLEST_STD,
    Arrays,
    Rates,
    Shape,
    predict,
    start,
    train,
)
from poyo_jax.baselines.samples import Samples
from poyo_jax.baselines.search import (
    Bins,
    Reaches,
    SearchResult,
    Trial,
    best_of,
    check_bins,
    choose_bins,
)
from poyo_jax.checks import check_choice, check_fields, check_numbers, integer, number
from poyo_jax.errors import ConfigError
from poyo_jax.metrics import r2_score
from poyo_jax.progress import Progress


@dataclass(frozen=True, kw_only=True)
class NetworkSearch:
    """Search over all shapes (bins, reach, width), each with rates drawn at random.

    Raises ConfigError for an unknown network, and for numbers that cannot be.
    """

    network: str  #: "mlp" or "gru"
    hidden: Sequence[int]  #: widths of the hidden layer
    bin_sizes: Sequence[float] = (0.02, 0.05)  #: s
    reaches: Reaches = ((0.5, 0.1), (1.0, 0.2))  #: s of spikes before and after a sample
    num_draws: int = 4  #: of rates, for every shape
    log_learning_rates: tuple[float, float] = (-3.3, -2.3)  #: bounds, to base 10
    log_weight_decays: tuple[float, float] = (-3.0, 0.0)  #: bounds, to base 10
    dropouts: tuple[float, float] = (0.0, 0.6)  #: bounds
    unit_dropouts: tuple[float, float] = (0.0, 0.4)  #: bounds of the share of units left out
    num_steps: int = 1200  #: most steps of a training
    look_every: int = 50  #: steps between two looks at the valid split
    patience: int = 5  #: looks without a better valid R2 of any trial

    def __post_init__(self) -> None:
        check_choice("NetworkSearch.network", self.network, NETWORKS)
        check_bins(self)
        count = integer(1)
        check_fields(self, num_draws=count, num_steps=count, look_every=count, patience=count)
        check_numbers("NetworkSearch.hidden", self.hidden, integer(1, 65_536))
        share, exponent = number(at_least=0, below=1), number(at_least=-30, at_most=30)
        ranges = {
            "log_learning_rates": exponent,
            "log_weight_decays": exponent,
            "dropouts": share,
            "unit_dropouts": share,
        }
        for name, allowed in ranges.items():
            bounds = getattr(self, name)
            check_numbers(f"NetworkSearch.{name}", bounds, allowed)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ConfigError(
                    f"NetworkSearch.{name} is {bounds!r}; it must be two bounds, the lower first."
                )

    def run(self, samples: Samples, *, causal: bool, seed: int, progress: bool) -> SearchResult:
        """Run all trials, and decode the test split with the best; `seed` decides all draws."""
        longest_bin = max(*self.bin_sizes, samples.interval)
        reach = max(map(max, self.reaches)) + longest_bin
        grid, rates = Grid.of(samples, reach), self._draw(seed)
        rows_of_rates = np.stack(rates, axis=1).tolist()  # one row a trial
        rates_by_trial = [Rates(*values) for values in rows_of_rates]
        trials, decoded = [], []
        all_bins = choose_bins(grid.interval, self.bin_sizes, self.reaches, causal=causal)
        shapes = list(product(all_bins, self.hidden))
        total = len(shapes) * self.num_steps  # fewer where a training ends early
        with Progress(f"tuning {self.network}", 0, total, progress) as bar:
            for number, (bins, hidden) in enumerate(shapes):
                first = number * self.num_steps

                def advance(done: int, first: int = first) -> None:
                    bar.advance(first + done)

                scores, values = self._fit(samples, grid, bins, hidden, rates, seed, advance)
                for trial_rates, score in zip(rates_by_trial, scores, strict=True):
                    settings = bins.settings() | {"hidden": hidden} | trial_rates._asdict()
                    trials.append(Trial(settings, score))
                decoded += values
                best_score = trials[best_of(trials)].valid_score
                bar.note(f"shape {number + 1} of {len(shapes)}, best valid R² {best_score:.3f}")
        best = best_of(trials)
        return SearchResult(trials, best, decoded[best])

    def _draw(self, seed: int) -> Rates:
        """Rates [trials], the same for all shapes."""
        rng = np.random.default_rng([seed, 7])

        def draw(low: float, high: float) -> np.ndarray:
            return rng.uniform(low, high, self.num_draws)

        return Rates(
            10 ** draw(*self.log_learning_rates),
            10 ** draw(*self.log_weight_decays),
            draw(*self.dropouts),
            draw(*self.unit_dropouts),
        )

    def _fit(
        self,
        samples: Samples,
        grid: Grid,
        bins: Bins,
        hidden: int,
        rates: Rates,
        seed: int,
        advance: Callable[[int], None],
    ) -> tuple[list[float], list[np.ndarray]]:
        """Train all trials of a shape; return their best valid R2 and their test predictions."""
        readout = samples.readout
        mean, std = np.array(readout.mean), np.array(readout.std)
        arrays = _arrays(samples, grid, bins.ticks)
        shape = Shape(
            self.network,
            hidden,
            bins.ticks,
            bins.past,
            bins.future,
            len(readout.mean),
            self.num_steps,
        )
        init_key, key = jax.random.split(jax.random.key(seed))
        keys = jax.random.split(init_key, self.num_draws)
        state = start(shape, arrays.counts.shape[1], keys)

        def decode(params: dict, split: str) -> np.ndarray:
            rows = grid.rows[samples.masks[split]]
            normalised = predict(shape, arrays, params, rows)
            return normalised * std + mean

        targets = samples.targets[samples.masks["valid"]]
        scores = np.full(self.num_draws, -np.inf)
        best, since_best = state[0], 0
        rates = Rates(*(jnp.asarray(values, jnp.float32) for values in rates))
        for done in range(0, self.num_steps, self.look_every):
            num_steps = min(self.look_every, self.num_steps - done)
            state = train(shape, arrays, rates, state, key, jnp.asarray(done), num_steps)
            advance(done + num_steps)
            decoded = decode(state[0], "valid")
            new = np.array([r2_score(targets, values) for values in decoded])
            better = new > scores
            best = jax.tree.map(partial(_where, better), state[0], best)
            scores = np.where(better, new, scores)
            since_best = 0 if better.any() else since_best + 1
            if since_best >= self.patience:
                break
        scores = np.where(np.isfinite(scores), scores, np.nan)
        return scores.tolist(), list(decode(best, "test"))


def _arrays(samples: Samples, grid: Grid, ticks: int) -> Arrays:
    """Arrays of the recording on the device, with units standardised by the train split."""
    targets, weights = grid.place(samples)
    counts = grid.binned(ticks)
    train_rows = np.flatnonzero(weights > 0)
    roots = np.sqrt(counts[train_rows], dtype=np.float32)
    mean = roots.mean(axis=0)
    std = np.maximum(roots.std(axis=0), SMALLEST_STD)
    targets = np.nan_to_num(targets)
    arrays = (counts, mean, std, targets, weights, train_rows)
    return Arrays(*map(jnp.asarray, arrays))


def _where(better: np.ndarray, new: jax.Array, old: jax.Array) -> jax.Array:
    """Parameters of the better trials from `new`, of the others from `old`."""
    shape = (-1,) + (1,) * (new.ndim - 1)
    return jnp.where(better.reshape(shape), new, old)
