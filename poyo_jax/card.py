"""Write the model card of a saved model: its README.md, for someone who finds the folder."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from poyo_jax.tasks.choose import choosing_metric
from poyo_jax.types import Readout, each_readout
from poyo_jax.words import counted

if TYPE_CHECKING:
    from poyo_jax.pretrained import Pretrained

_POYO = "[POYO](https://arxiv.org/abs/2310.16046)"
_USE = """\
result = poyo_jax.fit_units(pretrained, [session])       # for units that the model does not know
prediction = poyo_jax.decode(result.pretrained, session, split="test")"""
_USE_ENSEMBLE = """\
members = poyo_jax.ensemble.members_of(pretrained)       # for units that the model does not know
fitted = [poyo_jax.fit_units(member, [session]).pretrained for member in members]
prediction = poyo_jax.decode(poyo_jax.ensemble.join(fitted), session, split="test")"""
_CARD = """\
---
library_name: poyo_jax
license: {licence_yaml}
tags:
- neuroscience
- neural-decoding
- brain-computer-interface
- jax
---

# POYO, {num_backbone:.3g} M parameters, {sessions}

Decodes behaviour from spikes: {what} for poyo_jax, step {step}.

| dim | depth | latents | window | parameters of the backbone | of the tables of units and sessions |
|---|---|---|---|---|---|
| {model.dim} | {model.depth} | {model.num_latents} per {model.latent_step} s | {model.window_length} s \
| {num_backbone:.3g} M | {num_tables:.3g} M |

## Use

```python
import poyo_jax

pretrained = poyo_jax.load("PATH")                       # this folder, or hf://organisation/name@revision
session = poyo_jax.Session.open("session.h5")
{use}
```

## Trained on

| data set | sessions | units | decodes |
|---|---|---|---|
{data_sets}

## What it reaches

{scores}

## Intended use and limits

For research: decoding of recordings like those above, and adapting to new recordings by fitting their units. What it
decodes of a recording from another area, species or task is unknown until it is measured. The model sees a whole window
at once, also what comes after the decoded sample. It is no medical device.

## Licence

Of the parameters: {licence}. Data sets have licences of their own. poyo_jax itself: Apache-2.0.

## Citation

```bibtex
@inproceedings{{azabou2023unified,
  title = {{A Unified, Scalable Framework for Neural Population Decoding}},
  author = {{Azabou, Mehdi and Arora, Vinam and Ganesh, Venkataramana and Mao, Ximeng and Nachimuthu, Santosh and
            Mendelson, Michael J. and Richards, Blake and Perich, Matthew G. and Lajoie, Guillaume and Dyer, Eva L.}},
  booktitle = {{Advances in Neural Information Processing Systems}},
  volume = {{36}},
  year = {{2023}}
}}
```
"""


def model_card(
    pretrained: "Pretrained", scores: Mapping[str, float] | None = None, licence: str = "unknown"
) -> str:
    """The card in Markdown, with the front matter of the Hugging Face hub.

    `scores` are test scores by session id, where they are known.
    """
    params, members = pretrained.params, pretrained.config.model.members
    tables = params["unit_embedding"].size + params["session_embedding"].size
    return _CARD.format(
        model=pretrained.config.model,
        num_backbone=pretrained.num_backbone / 1e6,
        num_tables=tables / 1e6,
        sessions=counted(len(pretrained.sessions), "session"),
        step=pretrained.step,
        what=f"a {_POYO}" if members == 1 else f"an ensemble of {members} {_POYO} models",
        use=_USE if members == 1 else _USE_ENSEMBLE,
        data_sets="\n".join(_data_sets(pretrained)),
        scores="\n".join(_scores(pretrained, scores or {})),
        licence=licence,
        licence_yaml=json.dumps(licence),
    )


def _data_sets(pretrained: "Pretrained") -> list[str]:
    """A row for every data set, which is a session id up to its last /."""
    members: dict[str, list[str]] = {}
    for session in pretrained.sessions.names:
        members.setdefault(session.rpartition("/")[0], []).append(session)
    units = sorted(pretrained.units.names)
    rows = []
    for name, sessions in sorted(members.items()):
        # The names of a session's units begin with its id and /; 0 is the character after /.
        count = sum(
            bisect_left(units, f"{session}0") - bisect_left(units, f"{session}/")
            for session in sessions
        )
        decoded = sorted({_decoded(pretrained, session) for session in sessions})
        rows.append(f"| {name or '–'} | {len(sessions)} | {count} | {', '.join(decoded)} |")
    return rows


def _decoded(pretrained: "Pretrained", session: str) -> str:
    readouts = each_readout(pretrained.readouts[session])
    return " and ".join(_shown(readout) for readout in readouts)


def _shown(readout: Readout) -> str:
    if readout.kind == "classes":
        return f"{readout.value_key} ({len(readout.classes)} classes)"
    if readout.kind == "counts":
        return f"{readout.value_key} (counts)"
    return f"{readout.value_key} ({counted(len(readout.mean), 'channel')})"


def _scores(pretrained: "Pretrained", scores: Mapping[str, float]) -> list[str]:
    metric = choosing_metric(pretrained.config.model)
    lines = [
        f"{name}: {value:.4f} (mean over sessions)" for name, value in pretrained.metrics.items()
    ]
    if scores:
        lines += ["", f"| session | test {metric.label} |", "|---|---|"]
        lines += [f"| {session} | {value:.4f} |" for session, value in sorted(scores.items())]
    return lines or ["Not measured."]
