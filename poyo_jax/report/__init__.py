"""One self-contained page per run, which opens offline: `write_report`, and `python -m
poyo_jax.report`.
"""

from poyo_jax.report.page import write_report

__all__ = ["write_report"]
