"""The findings of `data_prep.check` as rows, as a table for the terminal, and as a sentence."""

from collections.abc import Iterable, Sequence
from typing import Any

from data_prep.check import SessionCheck
from poyo_jax.words import counted

LONGEST = 28  # characters of a cell


def rows(checks: Iterable[SessionCheck]) -> list[dict[str, Any]]:
    """Make one row per session, as {column: value}.

    Sessions with errors come first, then those with warnings.
    """
    ordered = sorted(checks, key=lambda check: (not check.errors, not check.warnings))
    return [_row(check, check.numbers) for check in ordered]


def _row(check: SessionCheck, numbers: dict[str, Any]) -> dict[str, Any]:
    total = 0.6 * numbers.get("minutes", 0)  # a hundredth of the seconds
    shares = [f"{seconds / total:.0f}" for seconds in numbers.get("splits", {}).values() if total]
    return {
        "session": check.id.rsplit("/", 1)[-1],
        "verdict": check.verdict,
        "units": numbers.get("units"),
        "spikes": numbers.get("spikes"),
        "minutes": numbers.get("minutes"),
        "median Hz/unit": numbers.get("rate"),
        "behaviour": numbers.get("key"),
        "Hz": numbers.get("sampling_rate"),
        "NaN": numbers.get("missing"),
        "99%/std": numbers.get("scaled"),
        "splits, %": "/".join(shares) or None,
    }


def table(checks: Sequence[SessionCheck]) -> str:
    """Format the table of all sessions, one line per finding (errors first), and a summary."""
    findings = [f"error: {check.name}: {text}" for check in checks for text in check.errors]
    findings += [f"warning: {check.name}: {text}" for check in checks for text in check.warnings]
    parts = ["\n".join(_markdown(rows(checks))), "\n".join(findings), summary(checks)]
    return "\n\n".join(part for part in parts if part)


def summary(checks: Sequence[SessionCheck]) -> str:
    """Say in a sentence how many sessions have errors or warnings."""
    wrong = sum(bool(check.errors) for check in checks)
    sound = sum(check.verdict == "ok" for check in checks)
    return (
        f"{counted(len(checks), 'session')}: {wrong} with errors, {len(checks) - wrong - sound}"
        f" with warnings, {sound} ok."
    )


def _markdown(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [list(rows[0]), *[[_text(value) for value in row.values()] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]


def _text(value: Any) -> str:
    if isinstance(value, int | float) and value == value:
        return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.2f}"
    text = "-" if value is None or value != value else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
