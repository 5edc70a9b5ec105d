"""Report a loss or a gradient that is not finite."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from poyo_jax.errors import Diverged
from poyo_jax.files import write_text
from poyo_jax.train.reliability.health import parameter_norms


def steps_not_finite(
    steps: Sequence[int],
    metrics: Sequence[Mapping[str, Any]],
) -> list[int]:
    """The steps that have a metric that is not finite."""
    bad = []
    for step, values in zip(steps, metrics, strict=True):
        if not np.isfinite([*values.values()]).all():
            bad.append(step)
    return bad


def report_divergence(
    workdir: epath.Path,
    steps: Sequence[int],
    bad_steps: Sequence[int],
    sessions: Sequence[str],
    params: dict,
    saved: int | None,
) -> Diverged:
    """Write `nan_report.json` into the work directory, and give the error to raise.

    Args:
        workdir: that of the run; process 0 writes.
        steps: those since the last look at the metrics.
        bad_steps: those whose metrics are not finite.
        sessions: ids of the sessions in the first bad batch.
        params: the parameters after the last of the steps.
        saved: step of the newest checkpoint, if there is one.
    """
    norms = parameter_norms(params)
    if jax.process_index() == 0:
        finite = {}
        for path, norm in norms.items():
            finite[path] = norm if np.isfinite(norm) else None
        report = {
            "steps": [steps[0], steps[-1]],
            "bad_steps": bad_steps,
            "sessions": sessions,
            "parameter_norms": finite,
        }
        write_text(workdir / "nan_report.json", json.dumps(report, indent=2) + "\n")
    last = f"the last checkpoint is step {saved}" if saved else "there is no checkpoint yet"
    more = ", ..." if len(sessions) > 8 else ""
    return Diverged(
        f"the loss or its gradient was not finite at {len(bad_steps)} of the steps {steps[0]} to"
        f" {steps[-1]}, first at step {bad_steps[0]}, whose windows come from {len(sessions)}"
        f" sessions: {', '.join(sessions[:8])}{more}. Nothing of these steps is saved; {last}."
        " Lower the learning rate or set clip_norm, or look for extreme targets in these"
        " sessions; nan_report.json in the work directory has the norms of all parameters."
    )
