"""Report of a run: one self-contained page that opens offline."""

from poyo_jax.report.page import write_report

__all__ = ["write_report"]
