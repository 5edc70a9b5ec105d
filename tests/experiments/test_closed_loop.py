"""The closed loop: the subject, its task, and decoders that learn and learn again."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.benchmarks.one_window import untrained
from experiments.studies import closed_loop
from experiments.studies.closed_loop import STATES, calibration, day, draw, table
from experiments.studies.filter_loops import KalmanLoop, Recent, WienerLoop
from experiments.studies.loop_days import FilterDay, Pace, PoyoDay, Settings
from experiments.studies.loop_settings import AHEAD, GAINS, choose_settings, settings_table
from experiments.studies.subject import STEP, Block, Subject, way_to
from poyo_jax import Pretrained, Session, StreamDecoder
from poyo_jax.config import Config, ModelConfig
from poyo_jax.errors import MissingDependencyError
from poyo_jax.finetune import FitConfig
from poyo_jax.native.library import find_compiler

NUM_UNITS = 20


@pytest.fixture(scope="module")
def calibrated() -> tuple[Subject, Block]:
    """A subject after calibration, and the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed_loop, "MINUTE", 25.0)
        subject = Subject((0, 0), NUM_UNITS)
        return subject, calibration(subject)


@pytest.fixture(scope="module")
def block(calibrated) -> Session:
    return calibrated[1].session("today", NUM_UNITS)


def test_the_way_to_a_target_is_limited_in_speed():
    np.testing.assert_allclose(way_to(np.array([4.0, 0.0]), np.zeros(2)), [10.0, 0.0])
    assert np.linalg.norm(way_to(np.array([80.0, 60.0]), np.zeros(2))) == pytest.approx(25.0)
    assert not way_to(np.ones(2), np.ones(2)).any()


def test_a_cursor_that_obeys_reaches_every_target():
    subject = Subject((0, 0))
    score, block = subject.play(30.0, lambda now, times, units: subject.intention)
    assert score.missed == 0 and score.reached > 15 and score.steps == 1500
    assert score.summary()["per_minute"] == 2 * score.reached
    times = np.concatenate(block.times)
    assert (np.diff(times) >= 0).all() and times[-1] < 30.0 and len(block.ends) == 1500
    score, _ = subject.play(30.0, lambda now, times, units: np.zeros(2))
    assert score.reached <= 1 and score.missed >= 4  # the cursor stands still
    assert subject.number * STEP == pytest.approx(60.0)


def test_units_fire_by_their_latency_before_the_movement(block):
    """Spikes of a unit with gains point to where the cursor goes about 0.1 s later."""
    behaviour = block.behaviour("cursor.vel")
    velocity = behaviour.values(0, behaviour.count)
    times = behaviour.times_at(np.arange(behaviour.count))
    gains = Subject((0, 0), NUM_UNITS).tuning.gains
    unit = int(np.argmax(np.linalg.norm(gains, axis=1)))
    spikes = block.spike_times[block.spike_units == unit]
    along = velocity @ gains[unit]
    lags = np.arange(-0.2, 0.3, 0.02)
    means = [np.interp(spikes + lag, times, along).mean() for lag in lags]
    assert 0.0 < lags[int(np.argmax(means))] < 0.2


def test_half_of_the_units_change_places():
    subject = Subject((0, 0))
    before = subject.tuning
    subject.shuffle()
    moved = before.baselines != subject.tuning.baselines
    assert moved.sum() == 20
    assert np.array_equal(np.sort(before.baselines), np.sort(subject.tuning.baselines))
    assert np.array_equal(before.gains[~moved], subject.tuning.gains[~moved])


def test_counts_of_the_last_bins():
    recent = Recent(num_units=2, num_bins=2, bin_size=0.04)
    recent.counts(1.00, np.array([0.99]), np.array([1]))
    recent.counts(1.02, np.array([1.001, 1.019]), np.array([0, 0]))
    counts = recent.counts(1.06, np.array([1.05]), np.array([1]))
    assert counts.tolist() == [[2.0, 0.0], [1.0, 1.0]]


def test_the_screen_is_seen_late():
    """The intention for a movement is the way on the screen of 0.26 s before it."""
    subject = Subject((0, 0))
    target, start = subject.target, subject.cursor
    _, block = subject.play(0.6, lambda now, times, units: subject.intention)
    way = np.array(block.way)
    first = int(np.argmax(np.any(way != 0, axis=1)))
    assert first * STEP == pytest.approx(0.26)
    np.testing.assert_allclose(way[first], way_to(target, start))


def test_both_minutes_make_a_block(calibrated):
    subject, block = calibrated
    assert len(block.ends) == len(block.times) == len(block.way) == round(50 / STEP)
    assert (np.diff(block.ends) > 0).all() and subject.number == len(block.ends)


def test_labels_look_ahead(calibrated):
    _, block = calibrated
    late, now = block.session("late", NUM_UNITS, ahead=0.06), block.session("now", NUM_UNITS)
    ahead, same = late.behaviour("cursor.vel"), now.behaviour("cursor.vel")
    assert ahead.count == same.count - 3
    times = np.arange(ahead.count)
    np.testing.assert_array_equal(ahead.times_at(times), same.times_at(times))
    later = same.values(3, same.count)
    np.testing.assert_array_equal(ahead.values(0, ahead.count), later)


class Obeys:
    """Learns nothing, and moves the cursor as the subject intends, by a factor."""

    def __init__(self, subject: Subject, factor: float):
        self.subject, self.factor = subject, factor

    def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Velocity in cm/s."""
        return self.factor * self.subject.intention


def test_settings_are_those_with_most_targets(tmp_path):
    """The gain undoes the factor of the decoder, and only one look-ahead moves the cursor."""
    made = []

    def make(settings: Settings):
        made.append(settings)
        factor = 1.5 if settings.ahead == AHEAD[1] else 0.0
        return lambda subject, block: Obeys(subject, factor)

    subjects = [(Subject((0, 0)), Block())]
    path, keys = tmp_path / "settings.jsonl", {"decoder": "obeys"}
    settings, found = choose_settings(path, keys, subjects, make, 10.0)
    assert settings == Settings(AHEAD[1], GAINS[0])
    assert len(made) == len(found) == len(AHEAD)
    assert subjects[0][0].number == 0  # tried on a copy
    again, _ = choose_settings(path, keys, subjects, make, 10.0)
    assert again == settings and len(made) == len(AHEAD)  # nothing runs twice
    lines = settings_table(found).splitlines()
    assert len(lines) == 2 + len(AHEAD) and lines[2].startswith("| obeys, 0.00 s | 0.0 |")


def test_a_filter_is_used_with_its_settings(calibrated):
    class Kind:
        def __init__(self, session: Session):
            self.num_labels = session.behaviour("cursor.vel").count

        def __call__(self, now: float, times: np.ndarray, units: np.ndarray) -> np.ndarray:
            """As many cm/s as there are labels."""
            return np.full(2, float(self.num_labels))

    subject, block = calibrated
    decode = FilterDay(Kind, Settings(ahead=0.06, gain=0.5))(subject, block)
    velocity = decode(0.0, np.zeros(0), np.zeros(0, int))
    assert velocity.tolist() == [0.5 * (len(block.ends) - 3)] * 2


@pytest.mark.parametrize("kind", [WienerLoop, KalmanLoop])
def test_filters_move_the_cursor_until_units_are_shuffled_and_again(kind, calibrated, monkeypatch):
    monkeypatch.setattr(closed_loop, "MINUTE", 40.0)
    subject, block = calibrated
    scores = day(deepcopy(subject), FilterDay(kind, Settings()), block, 30.0)
    before, shuffled, again = (scores[state]["per_minute"] for state in STATES)
    assert before >= 10 and again >= 10 and shuffled < min(before, again)


def test_poyo_learns_again_while_updates_go_on(monkeypatch):
    try:
        find_compiler()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    subject = Subject((0, 0), NUM_UNITS)
    _, block = subject.play(10.0, lambda now, times, units: subject.intention)
    session = block.session("today", NUM_UNITS)
    model = untrained(Config(model=ModelConfig(dim=16, depth=1, head_dim=8)), session)
    engine = StreamDecoder(model, session, STEP, back_end="native").engine
    learned = []

    class Job:
        """Fits nothing, and has an engine when it is asked for the fourth time."""

        def __init__(self, pretrained: Pretrained, session: Session, config: FitConfig, hop: float):
            learned.append((session.id, pretrained is model, hop))
            self._answers = iter([None, None, None, engine])
            self.close = lambda: None

        def poll(self) -> object:
            return next(self._answers)

    def fit(pretrained: str, session: Session, *_: object, progress: bool) -> SimpleNamespace:
        learned.append((session.id, pretrained == "pretrained"))
        return SimpleNamespace(pretrained=model)

    monkeypatch.setattr("poyo_jax.finetune.finetune", fit)
    monkeypatch.setattr("poyo_jax.finetune.Recalibration", Job)
    monkeypatch.setattr(closed_loop, "SETTLE", 1.0)
    monkeypatch.setattr(closed_loop, "MINUTE", 4.0)
    settings = Settings(ahead=0.06, gain=0.5)
    poyo = PoyoDay("pretrained", FitConfig(), settings)  # pyright: ignore[reportArgumentType]
    scores = day(subject, poyo, block, 1.0)
    assert list(scores) == list(STATES)
    again = ("closed_loop/today, shuffled", True, STEP)
    assert learned == [("closed_loop/today", True), again]
    assert poyo.measured["updates_meanwhile"] == 4
    assert poyo.measured["refit_s"] >= poyo.measured["longest_gap_s"] >= 0.5 * STEP


def test_updates_keep_their_pace():
    pace = Pace()
    for _ in range(5):
        pace.wait()
    assert pace.count == 5 and pace.longest >= 0.5 * STEP


def test_the_table_and_the_figure_have_every_state(tmp_path):
    row = {"per_minute": 40.0, "success": 1.0, "seconds": 1.5}
    rows = dict.fromkeys(STATES, row)
    cells = [{"decoder": name, "seed": 0} | rows for name in ("Wiener", "POYO")]
    slower = dict.fromkeys(STATES, row | {"per_minute": 30.0})
    cells.append({"decoder": "Wiener", "seed": 1} | slower)
    cells.append({"decoder": "POYO", "seed": 1, "error": "RuntimeError: no"})
    lines = table(cells).splitlines()
    assert lines[2] == "| Wiener, calibrated | 35.0 ± 7.1 | 1.00 ± 0.00 | 1.50 ± 0.00 |"
    assert len(lines) == 2 + 2 * len(STATES)
    draw(cells, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
