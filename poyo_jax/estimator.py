"""`Decoder`: load, adapt, predict and score in a line each, for those who think in scikit-learn's
words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import decode, evaluate
from poyo_jax.finetune.fit import finetune
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained, load
from poyo_jax.types import Prediction


@dataclass(frozen=True, eq=False)
class Decoder:
    """A pretrained model that is adapted and decodes. Nothing changes a Decoder; `adapt` returns a
    new one.

    >>> prediction = Decoder.from_pretrained("runs/pretrain").adapt(session).predict(session)
    """

    pretrained: Pretrained  #: the model

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Decoder":
        """A decoder from a run or a saved model. Raises CheckpointError when there is none."""
        return cls(load(path))

    def adapt(
        self,
        sessions: Session | Sequence[Session],
        strategy: str | FitConfig = "unit_identification",
        **options: Any,
    ) -> "Decoder":
        """A decoder that knows these sessions; strategies, options and errors are those of
        `finetune`.
        """
        chosen = [sessions] if isinstance(sessions, Session) else list(sessions)
        return Decoder(finetune(self.pretrained, chosen, strategy, **options).pretrained)

    def predict(self, session: Session, split: str = "all") -> Prediction:
        """What `decode` makes of a split ("train", "valid", "test"), by default of the whole
        session.
        """
        return decode(self.pretrained, session, split)

    def score(self, session: Session, split: str = "test") -> float:
        """R2 of a split."""
        return evaluate(self.pretrained, [session], split).mean

    def save(self, path: str | Path) -> None:
        """Write a folder that `from_pretrained` reads."""
        self.pretrained.save(path)
