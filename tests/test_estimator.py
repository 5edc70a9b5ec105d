"""The decoder in scikit-learn's words."""

import numpy as np
import pytest

from poyo_jax import Decoder, decode, load
from poyo_jax.errors import VocabError
from poyo_jax.finetune import FitConfig


def test_load_adapt_predict_score(tiny_run, tiny_sessions, tmp_path):
    decoder, session = Decoder.from_pretrained(tiny_run), tiny_sessions[2]
    adapted = decoder.adapt(session, FitConfig(num_steps=4, batch_size=8), progress=False)
    assert adapted.pretrained.knows(session) and not decoder.pretrained.knows(session)
    whole = adapted.predict(session)
    assert len(whole.times) == session.behaviour("cursor.vel").count
    assert adapted.score(session) == pytest.approx(adapted.predict(session, "test").r2)
    adapted.save(tmp_path)
    np.testing.assert_array_equal(decode(load(tmp_path), session, "all").values, whole.values)
    with pytest.raises(VocabError, match="does not know session"):
        decoder.score(session)
    several = decoder.adapt([session], FitConfig(num_steps=4, batch_size=8), progress=False)
    assert several.score(session) == adapted.score(session)
