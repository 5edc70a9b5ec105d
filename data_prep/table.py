"""The table that `prepare` ends with."""

from collections.abc import Sequence

from data_prep.prepare import Result


def results_table(results: Sequence[Result]) -> str:
    """Format sessions with units, spikes and hours; below, skipped files with the reason."""
    done = [result for result in results if not result.skipped]
    skipped = [result for result in results if result.skipped]
    rows = [
        (
            result.session,
            f"{result.units}",
            f"{result.spikes:,}",
            f"{result.hours:.2f}",
            _state(result),
        )
        for result in done
    ]
    totals = (sum(result.units for result in done), sum(result.spikes for result in done))
    hours = sum(result.hours for result in done)
    rows.append(
        (_count(len(done), "session"), f"{totals[0]}", f"{totals[1]:,}", f"{hours:.2f}", "")
    )
    lines = _columns([("session", "units", "spikes", "hours", ""), *rows])
    lines += [f"skipped: {result.skipped}" for result in skipped]
    if skipped:
        lines.append(
            f"{_count(len(skipped), 'raw file')} skipped, {len(done)} of {len(results)} prepared."
        )
    return "\n".join(lines)


def _state(result: Result) -> str:
    return "as before" if result.done_before else "new"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align the first and the last column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if 0 < position < len(row) - 1 else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
