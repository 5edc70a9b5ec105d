"""The Axes that all figures share: size, colours, title and key."""

from collections.abc import Iterable, Sequence

from poyo_jax.errors import MissingDependencyError
from poyo_jax.tasks import Metric

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise MissingDependencyError(
        f"figures need matplotlib, which cannot be imported ({error}); run: pip install"
        " poyo_jax[plots]"
    ) from error

# Okabe and Ito's palette, which colour-blind readers can tell apart; the measured behaviour is
# always INK.
INK, GREY, FAINT = "#1f2430", "#6b7280", "#c9ced6"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WIDTH = 5.6  # inches; narrow, so that the words can be read on a phone


def prepare(ax: Axes | None, height: float) -> Axes:
    """Return `ax`, or Axes in a new figure of `height` inches, without frame."""
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)
    for name in ("bottom", "left"):
        ax.spines[name].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=GREY)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    return ax


def title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize="medium", color=INK)


def key(ax: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Write names above the axes, each in the colour of what it names."""
    offset = 0.0
    for name, color in entries:
        text = ax.annotate(
            name,
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(offset, 6),
            textcoords="offset points",
            color=color,
            fontweight="bold",
        )
        offset += text.get_window_extent().width * 72 / ax.figure.dpi + 14


def limits(metric: Metric, scores: Iterable[float]) -> tuple[float, float]:
    """Limits of an axis that shows 0, all scores and a perfect one."""
    if metric.higher_is_better:
        return min(0.0, *scores), metric.perfect
    return metric.perfect, max(0.0, *scores)
