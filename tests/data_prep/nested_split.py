"""Digests of the splits that scikit-learn draws, for tests without it. With it, this writes
nested_split.json anew:

python tests/data_prep/nested_split.py
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_suffix(".json")
COUNTS = range(5, 700)
TEST, VALID = 0.2, 0.1 / (1 - 0.2 - 0.1 + 0.1)  # shares of all trials, and of those that remain


def digest(parts: Iterable[np.ndarray]) -> str:
    """What tells the rows of train, valid and test from other ones."""
    text = "|".join(",".join(map(str, np.sort(part).tolist())) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def by_scikit_learn(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of train, valid and test: the test part is drawn first, the valid one from the rest."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(count), test_size=TEST, random_state=42)
    train, valid = train_test_split(rest, test_size=VALID, random_state=42)
    return np.sort(train), np.sort(valid), np.sort(test)


if __name__ == "__main__":
    table = {str(count): digest(by_scikit_learn(count)) for count in COUNTS}
    TABLE.write_text(json.dumps(table, indent=0) + "\n")
