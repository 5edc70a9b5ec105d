"""`Decoder`: load, adapt, predict and score in the manner of scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poyo_jax.data.given import one_session
from poyo_jax.data.session import Session
from poyo_jax.decoding.offline import decode, evaluate
from poyo_jax.finetune.fit import finetune
from poyo_jax.fit_config import FitConfig
from poyo_jax.pretrained import Pretrained, check_model, load
from poyo_jax.types import Prediction


@dataclass(frozen=True, eq=False)
class Decoder:
    """A pretrained model with methods to adapt it and to decode.

    It is immutable: `adapt` returns a new Decoder.

    >>> prediction = Decoder.from_pretrained("runs/pretrain").adapt(session).predict(session)
    """

    pretrained: Pretrained  #: the model

    def __post_init__(self) -> None:
        check_model(self.pretrained)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Decoder":
        """Load a run or a saved model. Raises CheckpointError when there is none."""
        return cls(load(path))

    def adapt(
        self,
        sessions: Session | Sequence[Session],
        strategy: str | FitConfig = "unit_identification",
        **options: Any,
    ) -> "Decoder":
        """Adapt to one or more sessions. Strategies, options and errors are those of `finetune`."""
        return Decoder(finetune(self.pretrained, sessions, strategy, **options).pretrained)

    def predict(self, session: Session, split: str = "all") -> Prediction:
        """Decode a split ("train", "valid", "test"), by default the whole session."""
        return decode(self.pretrained, session, split)

    def score(self, session: Session, split: str = "test") -> float:
        """Score of a split in the metric of the task, such as R2; NaN if undefined there."""
        return evaluate(self.pretrained, [one_session(session)], split).mean

    def save(self, path: str | Path) -> None:
        """Write a folder that `from_pretrained` reads."""
        self.pretrained.save(path)
