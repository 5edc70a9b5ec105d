"""Commands write errors in the words of their options."""

import signal
import threading
from pathlib import Path

import pytest

from poyo_jax import open_sessions
from poyo_jax.cli import program, simulate
from poyo_jax.cli.convert import Convert
from poyo_jax.cli.finetune import Finetune
from poyo_jax.cli.pretrain import Pretrain
from poyo_jax.cli.program import run_program
from poyo_jax.cli.sessions import count_line, sessions_at
from poyo_jax.cli.wording import CALLS, in_options, option_names
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import DataError, VocabError, suggest

PACKAGE = Path(program.__file__).parents[1]
SENTENCES = [
    (Finetune, "fit its rows again with known='refit', or", "again with --known refit, or"),
    (Finetune, "num_trials is 0; give more.", "--num-trials is 0; give more."),
    (Finetune, "start_from names 'a'", "--start-from names 'a'"),
    (Finetune, "/tmp/num_trials/a.h5 is cut off", "/tmp/num_trials/a.h5 is cut off"),
    (Finetune, "choose known='refit'.", "choose --known refit."),
    (Pretrain, "or short_intervals='widen'.", "or --config.data.short-intervals widen."),
    (Pretrain, "Raise RunConfig.num_steps.", "Raise --config.run.num-steps."),
    (Pretrain, "or missing_ok=True.", "or --missing-ok."),
    (Pretrain, "or dry_run=False.", "or --no-dry-run."),
    (Convert, "Pass readouts={'a': Readout(value_key=..., std=...)}.", "Give --readouts FILE,"),
    (None, "with poyo_jax.fit_units.", "with `python -m poyo_jax finetune MODEL SESSION"),
]


def test_arguments_become_options():
    for kind, text, expected in SENTENCES:
        assert expected in in_options(text, option_names(kind)), text


def test_the_package_says_the_calls_that_are_translated():
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    joined = sources.replace('"\n', "").replace(" " * 4, "").replace('f"', "").replace('"', "")
    for call in CALLS:
        assert " ".join(call.split()[:2]) in joined, call


def test_an_error_of_a_command(capsys):
    def work(_):
        raise VocabError("fit again with known='refit'.")

    with pytest.raises(SystemExit, match="2"):
        run_program(work, None, kind=Finetune)
    assert capsys.readouterr().err == "\nfit again with --known refit.\n"


def test_a_session_file_that_does_not_exist(tmp_path):
    session = simulate_session(0, num_units=1, duration=20.0)
    session.save(tmp_path / "monday.h5")
    with pytest.raises(DataError, match=r"no session file .*mondy.h5. Did you mean 'monday.h5'"):
        sessions_at(tmp_path / "mondy.h5")
    with pytest.raises(DataError, match="neither a session file nor a folder"):
        sessions_at(tmp_path / "week")
    with pytest.raises(DataError, match=r"monday.h5 is a file, not a folder. Give the folder th"):
        open_sessions(tmp_path / "monday.h5")
    assert count_line(sessions_at(tmp_path / "monday.h5")) == "1 session, 1 unit"


def test_a_value_that_an_option_does_not_take(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        simulate.main([str(tmp_path), "--num-sessions", "0"])
    expected = "--num-sessions is 0, but a laboratory needs at least 1;"
    assert capsys.readouterr().err.strip().startswith(expected)


def test_other_errors_of_the_command_line_are_those_of_tyro(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        simulate.main([str(tmp_path), "--num-session", "3"])
    assert "Unrecognized options: --num-session" in capsys.readouterr().err


def test_the_next_command_can_be_pasted(tmp_path, capsys):
    simulate.main([str(tmp_path / "my lab"), "--num-sessions", "1", "--duration", "20"])
    assert f"--data '{tmp_path}/my lab' --workdir runs/small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("unit", ("auto", "unit_identification", "full"), ["unit_identification"]),
        ("nope.h5", ("zero.h5", "flip.h5"), []),
        ("mondy.h5", ("monday.h5", "flip.h5"), ["monday.h5"]),
        ("cursor.velocity", ("cursor", "cursor.vel", "hand.vel"), ["cursor.vel", "cursor"]),
        ("session_12", ("session_2", "session_1"), ["session_1", "session_2"]),
        ("a", ("auto", "axis"), []),
        ("", ("auto",), []),
    ],
)
def test_similar_names(name, known, expected):
    hint = f" Did you mean {' or '.join(map(repr, expected))}?" if expected else ""
    assert suggest(name, known) == hint


def test_ctrl_c_is_answered_while_the_main_thread_is_busy(capsys, monkeypatch):
    """The handler of Python, which raises KeyboardInterrupt, waits for the main thread."""
    monkeypatch.setattr(program, "AT_ONCE", 0.0)
    said = threading.Event()

    def heard(*words, **options):
        print(*words, **options)
        said.set()

    monkeypatch.setattr(program, "print", heard, raising=False)

    def work(_):
        previous = signal.signal(signal.SIGINT, lambda *_: None)
        signal.raise_signal(signal.SIGINT)
        assert said.wait(10)
        signal.signal(signal.SIGINT, previous)

    run_program(work, None)
    assert "stopping as soon as" in capsys.readouterr().err
