"""The page holds what the run, the model and the recordings say, and says what is absent."""

import base64
import re
import sys

import numpy as np
import pytest
from native_models import model_of_two_outputs
from pages import NEW, content_of

from poyo_jax import Session, evaluate, load
from poyo_jax.cli.report import main
from poyo_jax.config import ModelConfig
from poyo_jax.errors import MissingDependencyError, PoyoError
from poyo_jax.finetune import fit_units
from poyo_jax.report import write_report
from poyo_jax.train.reliability.goodput import read_goodput
from poyo_jax.train.writers import read_metrics

KINDS = {"f4": np.float32, "u1": np.uint8, "u2": np.uint16}


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["data"]), KINDS[packed["kind"]])


@pytest.fixture(scope="module")
def content(report):
    return content_of(report)


def test_one_file_that_asks_for_nothing(report):
    text = report.read_text(encoding="utf-8")
    head = text[: text.index("<body>")]
    assert "default-src 'none'" in head and "A &amp; &lt;b&gt;" in head
    assert "src=" not in head and "@import" not in head and report.stat().st_size < 10e6
    assert [path.name for path in report.parent.iterdir()] == ["report.html"]


def test_scores_are_those_of_evaluate(content, fit, tiny_sessions):
    expected = evaluate(fit.pretrained, tiny_sessions).r2
    assert content["scores"]["POYO"] == pytest.approx(expected, rel=1e-3)
    assert content["scores"]["Wiener filter"][NEW] == 0.5
    rows = {row["session"]: row for row in content["sessions"]}
    assert (
        rows[NEW]["test R²"] == pytest.approx(expected[NEW], rel=1e-3) and rows[NEW]["units"] == 12
    )
    assert rows["simulated/session_9"][""] == "not known to the model"
    assert list(content["recordings"]) == sorted(expected, key=expected.get, reverse=True)


def test_what_is_shown_of_a_recording(content, fit, tiny_sessions):
    shown, session = content["recordings"][NEW], tiny_sessions[2]
    prediction = evaluate(fit.pretrained, [session]).predictions[NEW]
    times = numbers(shown["times"])
    # Both blocks of the test split, one behind the other, without the time between them.
    assert [block[0] for block in shown["blocks"]] == pytest.approx([0.0, 6.0])
    in_session = times.astype(float)
    for begin, start, _ in shown["blocks"]:
        here = times > begin - 1e-4
        in_session[here] = times[here] - begin + start
    np.testing.assert_allclose(in_session, prediction.times[: len(times)], atol=1e-4)
    for channel in range(2):
        np.testing.assert_allclose(
            numbers(shown["values"][channel]), prediction.values[: len(times), channel], atol=1e-4
        )
    units = [
        session.spikes_between(start, start + length)[1] for _, start, length in shown["blocks"]
    ]
    np.testing.assert_array_equal(numbers(shown["spike_units"]), np.concatenate(units))
    assert shown["unit"] == "cm/s" and shown["unit_labels"][0] == "00"
    assert shown["position"] is None and shown["interval"] == pytest.approx(0.02)


def test_errors_by_speed_and_direction(content, fit, tiny_sessions):
    prediction = evaluate(fit.pretrained, [tiny_sessions[2]]).predictions[NEW]
    distance = np.linalg.norm(prediction.values - prediction.targets, axis=1)
    shown = content["recordings"][NEW]["errors"]
    assert len(shown["by_direction"]) == 12 and shown["speed"] == sorted(shown["speed"])
    # Bins between quantiles hold about as many samples each.
    assert np.mean(shown["by_speed"]) == pytest.approx(distance.mean(), rel=0.02)


def test_attention_is_a_share(content):
    shown = content["recordings"][NEW]["attention"]
    weights = numbers(shown["weights"]).reshape(len(shown["latent_times"]), -1)
    assert weights.shape == (8, len(numbers(shown["spike_times"]))) and weights.max() == 255
    assert all(0 < share < 1 for share in shown["shares"])
    np.testing.assert_allclose(
        weights.sum(axis=1) / 255 * shown["largest"], shown["shares"], atol=0.05
    )


def test_training_and_time(content, tiny_run):
    history = [line for line in read_metrics(tiny_run) if "loss" in line]
    assert content["training"]["loss"]["steps"][-1] == history[-1]["step"] == 150
    assert content["training"]["loss"]["values"][-1] == pytest.approx(history[-1]["loss"], rel=1e-3)
    assert set(content["training"]["sessions"]) == {"simulated/session_0", "simulated/session_1"}
    assert content["goodput"]["seconds"]["step"] == pytest.approx(
        read_goodput(tiny_run)["step"], rel=1e-3
    )


def test_unit_identification_step_by_step(content, fit, tiny_sessions):
    shown = content["fits"][NEW]
    assert shown["steps"] == [0, 5, 10, 15, 20]
    assert len(shown["values"]) == len(shown["points"]) == 5
    for step, r2 in zip(shown["steps"], shown["test"], strict=True):
        assert r2 == pytest.approx(
            evaluate(fit.at(step), [tiny_sessions[2]]).r2[NEW], rel=1e-2, abs=1e-3
        )
    assert shown["valid"] == pytest.approx([look["valid_r2"] for look in fit.history], rel=1e-3)


def test_embeddings(content, fit):
    units = content["embeddings"]["units"]
    assert units["names"] == list(fit.pretrained.units.names)
    assert units["colours"]["session"][-1] == NEW and set(units["colours"]["area"]) == {"unknown"}
    rates = numbers(units["rates"])
    assert np.isfinite(rates).all() and rates.min() >= 0
    rows = np.asarray(fit.pretrained.params["unit_embedding"], np.float64)[1:]
    first = (rows - rows.mean(axis=0)) @ np.linalg.svd(rows - rows.mean(axis=0))[2][0]
    assert abs(np.corrcoef(first, numbers(units["points"][0]))[0, 1]) == pytest.approx(1, abs=1e-5)


def test_the_model_at_a_step_is_what_the_fit_kept(fit):
    best = max(fit.history, key=lambda look: look["valid_r2"])
    np.testing.assert_array_equal(
        fit.at(int(best["step"])).params["unit_embedding"], fit.pretrained.params["unit_embedding"]
    )


def test_areas_are_read_from_the_file_or_the_ids():
    from poyo_jax.report.embeddings import areas

    arrays = (
        [0.1],
        [0],
        ["group_electrode_group_PMd/elec4/unit_0", "chan1"],
        [0.0, 1.0],
        [[0.0, 0.0], [1.0, 1.0]],
    )
    assert areas(Session.from_arrays(*arrays, session_id="a")) == ["PMd", "unknown"]


def test_what_is_absent_is_said(fit, tmp_path):
    content = content_of(write_report(tmp_path / "report.html", fit.pretrained))
    assert content["training"]["absent"].startswith("There is no training history")
    assert content["goodput"]["absent"].startswith("Nobody noted where the time went")
    assert content["recordings"]["absent"].startswith("There is no recording that the model knows")
    assert content["fits"]["absent"] == "No fit of new units was given."
    assert len(content["embeddings"]["units"]["names"]) == 36


def test_a_damaged_history_is_shown_as_far_as_it_goes(run_copy, fit, tmp_path):
    path = run_copy / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(
        b"\n".join([lines[0], b"\xff\xfe\x00", b"7", b'{"loss": 1}', *lines[4:], lines[-1][:9]])
    )
    (run_copy / "goodput.jsonl").write_bytes(b'{"started": 3}\n\xff')
    content = content_of(write_report(tmp_path / "report.html", fit.pretrained, workdir=run_copy))
    assert content["training"]["note"] == "4 lines of metrics.jsonl are damaged and left out."
    assert content["training"]["loss"]["steps"][-1] == 150
    assert "absent" in content["goodput"]


def test_a_fit_without_snapshots_is_explained(tiny_run, tiny_sessions, tmp_path):
    from poyo_jax.finetune import FitConfig

    fit = fit_units(
        load(tiny_run), [tiny_sessions[2]], FitConfig(num_steps=2, unit_steps=0), progress=False
    )
    page = write_report(
        tmp_path / "report.html", fit.pretrained, tiny_sessions[2:], fits={NEW: fit}
    )
    assert "keep_snapshots=True" in content_of(page)["fits"][NEW]["absent"]


def test_a_session_in_which_little_is_known(fit, tiny_sessions, tmp_path):
    """One that is silent in the second that is shown, and whose test split holds a few samples
    only.
    """
    session = tiny_sessions[0]
    start = session.split("test").starts[0]
    late = np.asarray(session.spike_times) > start + 2
    behaviour = session.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    quiet = Session.from_arrays(
        np.asarray(session.spike_times)[late],
        np.asarray(session.spike_units)[late],
        list(session.unit_ids),
        times,
        behaviour.values(0, behaviour.count),
        session_id="session_0",
        brainset_id="simulated",
        target_key="cursor.vel",
    ).with_splits(train=[(0.0, 5.0)], test=[(start, start + 1.2)])
    shown = content_of(write_report(tmp_path / "report.html", fit.pretrained, [quiet]))[
        "recordings"
    ][session.id]
    assert shown["attention"]["absent"].startswith("No unit of simulated/session_0 fires")
    assert shown["errors"]["absent"].startswith(
        "Errors over speed and direction need two channels and 100"
    )


def test_from_the_command_line(tiny_run, tiny_data, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = [str(tiny_run), "--data", str(tiny_data / "session_0.h5"), "--out", str(out)]
    main([*words, "--causal-step", "0.25"])
    assert "open it in a browser" in capsys.readouterr().out
    content = content_of(out)
    methods = {"POYO", "Wiener filter", "POYO, causal, 250 ms"}
    assert set(content["scores"]) == methods and content["goodput"]["seconds"]
    causal = content["scores"]["POYO, causal, 250 ms"]["simulated/session_0"]
    assert causal < content["scores"]["POYO"]["simulated/session_0"]


@pytest.mark.parametrize("words", [["nowhere"], ["RUN", "--data", "nowhere"]])
def test_what_is_wrong_is_a_sentence(words, tiny_run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(
            [word.replace("RUN", str(tiny_run)) for word in words]
            + ["--out", str(tmp_path / "page.html")]
        )
    error = capsys.readouterr().err
    assert "Traceback" not in error and "nowhere" in error and not list(tmp_path.iterdir())


def test_what_causal_decoding_cannot_score_is_refused_before_the_fits(tmp_path, capsys):
    config = ModelConfig(
        dim=16, depth=1, head_dim=16, cross_heads=1, self_heads=1, num_latents=4, latent_step=0.25
    )
    pretrained, _ = model_of_two_outputs(config)
    pretrained.save(tmp_path / "model")
    words = [str(tmp_path / "model"), "--adapt", str(tmp_path / "never.h5"), "--causal-step"]
    for step, sentence in (
        (
            "0.25",
            r"--causal-step is for a model of one output, .* \(hand, muscles\)\. Leave it out.",
        ),
        ("2.0", "--causal-step is 2.0, but"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*words, step])
        assert re.search(sentence, capsys.readouterr().err)


def test_a_session_that_needs_no_fit(tiny_run, tiny_data, tmp_path, capsys):
    known = str(tiny_data / "session_0.h5")
    with pytest.raises(SystemExit, match="2"):
        main([str(tiny_run), "--adapt", known, "--out", str(tmp_path / "page.html")])
    out, err = capsys.readouterr()
    assert "fitting" not in out
    assert "knows session 'simulated/session_0' already. Give its file with --data, not" in err


def test_a_path_that_cannot_be_written_is_explained(fit, tmp_path):
    with pytest.raises(PoyoError, match="cannot be written"):
        write_report(tmp_path, fit.pretrained)


def test_without_plotly_the_sentence_says_what_to_install(fit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingDependencyError, match=r"pip install poyo_jax\[plots\]"):
        write_report(tmp_path / "report.html", fit.pretrained)


def test_text_of_the_recordings_cannot_leave_the_numbers(fit, tiny_sessions, tmp_path):
    scores = {"</script><script>alert(1)</script>@PLOTLY@": {tiny_sessions[0].id: 0.1}}
    page = write_report(tmp_path / "report.html", fit.pretrained, scores=scores)
    assert set(content_of(page)["scores"]) == {"POYO", *scores}
    assert "</script><script>alert" not in page.read_text(encoding="utf-8")
