"""Every way in which a session can be unsound is found, and sound ones have no findings."""

import base64
import re

import h5py
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from data_prep import check, check_report
from data_prep.check import check_folder, check_session, has_errors
from data_prep.check_table import table
from poyo_jax import Session
from poyo_jax.data.intervals import Intervals
from poyo_jax.data.io.layout import Node
from poyo_jax.data.simulate import simulate_session
from poyo_jax.errors import DataError

ODOHERTY = "odoherty_sabes_nonhuman_2017"  # whose readout is cursor.vel / 200


def interval(starts, ends):
    return Node("Interval", {}, {"start": np.array(starts, float), "end": np.array(ends, float)})


def made(brainset=None, change=None, num_units=4, duration=60.0):
    """A simulated session after `change(tree)`."""
    session = simulate_session(1, session_id="made", num_units=num_units, duration=duration)
    tree = session._tree
    if brainset:
        tree.members["brainset"] = Node("Data", {"id": brainset})
    if change:
        change(tree)
    return Session(tree)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sound sessions, and one whose file is cut off."""
    folder = tmp_path_factory.mktemp("sessions")
    for number, name in enumerate(("ada", "bo", "cut")):
        (folder / "lab").mkdir(exist_ok=True)
        simulate_session(number, session_id=name, num_units=5, duration=60.0).save(
            folder / "lab" / f"{name}.h5"
        )
    whole = (folder / "lab" / "cut.h5").read_bytes()
    (folder / "lab" / "cut.h5").write_bytes(whole[: len(whole) // 2])
    return folder


# --- one session


def test_a_sound_session_has_no_findings():
    session = made()
    found = check_session(session)
    assert (found.verdict, found.errors, found.warnings) == ("ok", [], [])
    rates = np.bincount(session.spike_units, minlength=4) / session.domain.duration
    assert found.numbers["units"] == 4 and found.numbers["spikes"] == len(session.spike_times)
    assert found.numbers["rate"] == pytest.approx(np.median(rates))
    assert found.numbers["sampling_rate"] == pytest.approx(100.0)
    assert found.numbers["key"] == "cursor.vel" and found.numbers["missing"] == 0.0
    assert set(found.numbers["splits"]) == {"train", "valid", "test"}


def spikes(column, rows, value):
    def change(tree):
        array = np.array(tree.members["spikes"].members[column])
        array[rows] = value
        tree.members["spikes"].members[column] = array

    return change


def cursor(column, rows, value):
    def change(tree):
        array = np.array(tree.members["cursor"].members[column])
        array[rows] = value
        tree.members["cursor"].members[column] = array

    return change


def members(**nodes):
    return lambda tree: tree.members.update(nodes)


def without(*names):
    return lambda tree: [tree.members.pop(name) for name in names]


def all_spikes(function):
    """The spikes become what `function` makes of (times, units); the last two of the given ones
    close the session.
    """

    def change(tree):
        node = tree.members["spikes"]
        times, units = function(
            np.array(node.members["timestamps"]), np.array(node.members["unit_index"])
        )
        order = np.argsort(times, kind="stable")
        node.members |= {"timestamps": times[order], "unit_index": units[order]}

    return change


def twice(times, units):
    return np.concatenate([times, times]), np.concatenate([units, units])


def nearly_twice(times, units):
    return np.concatenate([times, times + 1e-4]), np.concatenate([units, units])


def burst(times, units):
    return np.concatenate([times, np.arange(0, 59, 0.0015)]), np.concatenate(
        [units, np.full(39334, 2)]
    )


ERRORS = {
    "unsorted spikes": (
        spikes("timestamps", 20, 0.0),
        "1 of .* spikes are earlier than the one before",
    ),
    "NaN among spikes": (
        spikes("timestamps", 20, np.nan),
        "1 of .* spike times are NaN or infinite",
    ),
    "unit out of range": (
        spikes("unit_index", [7, 8], [4, -1]),
        "2 of .* belong to no unit; .* 0 ... 3",
    ),
    "another clock": (
        all_spikes(lambda t, u: (t + 1000, u)),
        "100.0% of the spikes lie outside the domain",
    ),
    "no spikes": (all_spikes(lambda t, u: (t[:0], u[:0])), "no spikes"),
    "short": (
        members(domain=interval([0], [0.5])),
        "domain holds 0.5 s, less than a window of 1 s",
    ),
    "empty domain": (members(domain=interval([], [])), "domain holds 0 s"),
    "splits overlap": (
        members(valid_domain=interval([7], [9.5])),
        "train and valid share 2.5 s, first at 7 s",
    ),
    "split bound NaN": (
        members(test_domain=interval([30, np.nan], [31, 5])),
        "1 of 2 rows of test_domain have no fin",
    ),
    "split outside": (
        members(test_domain=interval([99], [110])),
        "100% of the test split lies outside the domain",
    ),
    "time stamps fall": (cursor("timestamps", 50, 0.0), "1 time stamps of cursor are earlier"),
    "time stamp NaN": (
        cursor("timestamps", 50, np.nan),
        "1 time stamps of cursor are NaN or infinite",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    change, pattern = ERRORS[name]
    found = check_session(made(change=change))
    assert any(re.search(pattern, text) for text in found.errors), found
    assert has_errors([found]) and found.verdict.endswith(("error", "errors"))


def test_columns_that_do_not_fit_are_an_error():
    def shorten(tree):
        tree.members["cursor"].members["vel"] = np.zeros((5, 2))

    found = check_session(made(change=shorten))
    assert any("cursor.vel has 5 samples but" in text for text in found.errors), found


def test_a_readout_of_other_channels_is_an_error():
    def flatten(tree):
        tree.members["cursor"].members["vel"] = np.array(tree.members["cursor"].members["vel"])[
            :, 0
        ]

    found = check_session(made(ODOHERTY, flatten))
    assert any(
        "cursor.vel has 1 channels, but its readout has 2" in text for text in found.errors
    ), found


def eight_seconds(tree):
    tree.members |= {
        "domain": interval([0], [8]),
        "valid_domain": interval([6], [7]),
        "test_domain": interval([7], [8]),
    }
    tree.members["train_domain"] = interval([0], [6])


WARNINGS = {
    "silent unit": (
        all_spikes(lambda t, u: (t, np.where(u == 1, 2, u))),
        "1 of 4 units have no spikes: ",
    ),
    "spikes twice": (
        all_spikes(twice),
        "in 4 of 4 units more than 1% of the spikes have the time of another",
    ),
    "spikes nearly twice": (
        all_spikes(nearly_twice),
        "more than 5% of the spikes follow another .* within 0.3 ms",
    ),
    "fast unit": (all_spikes(burst), r"units faster than 500 Hz: unit_02 \(6\d\d Hz\)"),
    "some spikes outside": (
        members(domain=interval([0], [45])),
        r"\d\d.\d% of the spikes lie outside the domain",
    ),
    "few windows": (
        lambda tree: (all_spikes(lambda t, u: (t[t < 8], u[t < 8]))(tree), eight_seconds(tree)),
        "domain holds 8 s, few for windows",
    ),
    "no split": (without("valid_domain", "test_domain"), "nothing in the splits valid, test"),
    "rows overlap": (
        members(train_domain=interval([0, 3], [4, 5])),
        "1 of 2 rows of train_domain begin before",
    ),
    "short intervals": (
        members(
            test_domain=interval(np.arange(40, 46), np.arange(40, 46) + 0.5),
            train_domain=interval([0], [5]),
        ),
        "shorter than a window of 1 s make up 100% of test",
    ),
    "no behaviour": (without("cursor"), "there is no behaviour"),
    "nothing to decode": (
        lambda tree: tree.members.update(
            eye=tree.members["cursor"], nose=tree.members.pop("cursor")
        ),
        "there is no default readout: .* pass a Readout",
    ),
    "missing samples": (
        cursor("vel", slice(0, 1000), np.nan),
        r"samples of cursor.vel in the splits are missing",
    ),
    "infinite samples": (
        cursor("vel", slice(0, 1000), 1e300),
        r"samples of cursor.vel in the splits are missing",
    ),
    "time stamps repeat": (cursor("timestamps", 50, 0.49), "1 time stamps of cursor are the same"),
    "uneven sampling": (
        lambda tree: cursor("timestamps", slice(0, 6000, 2), np.arange(0, 6000, 2) / 100 + 0.004)(
            tree
        ),
        r"50.0% of the steps between samples of cursor differ from the usual",
    ),
    "undeclared gap": (
        lambda tree: tree.members["cursor"].members.update(
            {
                name: np.delete(tree.members["cursor"].members[name], slice(500, 800), axis=0)
                for name in ("timestamps", "vel")
            }
        ),
        "1 gaps between samples of cursor, 3.01 s in all, belong to its domain",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings(name):
    change, pattern = WARNINGS[name]
    found = check_session(made(change=change))
    assert any(re.search(pattern, text) for text in found.warnings), found
    assert not found.errors and not has_errors([found])


@pytest.mark.parametrize(("factor", "is_odd"), [(1.0, False), (1e-3, True), (1e3, True)])
def test_behaviour_in_another_unit_is_a_warning(factor, is_odd):
    def scale(tree):
        tree.members["cursor"].members["vel"] = factor * np.array(
            tree.members["cursor"].members["vel"]
        )

    found = check_session(made(ODOHERTY, scale))
    assert found.numbers["scaled"] == pytest.approx(found.numbers["high"] / 200, rel=1e-4)
    assert any("is it in another unit?" in text for text in found.warnings) == is_odd


def test_behaviour_that_is_missing_everywhere_is_an_error_where_it_is_to_be_decoded():
    lost = cursor("vel", slice(None), np.nan)
    text = "100.0% of the samples of cursor.vel in the splits are missing or not finite."
    assert text in check_session(made(ODOHERTY, lost)).errors
    found = check_session(made(None, lost))
    assert text in found.warnings and "no finite sample to train on" in found.warnings[0]


def test_percentiles_are_those_of_the_splits():
    session = made()
    behaviour = session.behaviour("cursor.vel")
    times = behaviour.times_at(np.arange(behaviour.count))
    inside = np.any(
        [session.split(name).contains(times) for name in ("train", "valid", "test")], axis=0
    )
    speed = np.linalg.norm(behaviour.values(0, behaviour.count)[inside], axis=1)
    found = check_session(session)
    assert found.numbers["high"] == pytest.approx(np.percentile(speed, 99), rel=1e-6)
    assert found.numbers["median"] == pytest.approx(np.percentile(speed, 50), rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_spikes_are_counted_alike_whatever_the_size_of_the_pieces(monkeypatch, chunk):
    rng = np.random.default_rng(0)
    times = np.sort(np.round(rng.uniform(0, 2, 400), 4))  # with ties
    units = rng.integers(0, 5, 400)
    session = made(change=all_spikes(lambda *_: (times, units)), num_units=6)
    monkeypatch.setattr(check, "CHUNK", chunk)
    scan = check.SpikeScan(session)
    for unit in range(6):
        steps = np.diff(times[units == unit])
        assert scan.counts[unit] == np.sum(units == unit)
        assert scan.same[unit] == np.sum(steps == 0)
        assert scan.close[unit] == np.sum(steps < check.CLOSE)
    assert (scan.falls, scan.not_finite, scan.strangers, scan.inside) == (0, 0, 0, 400)
    assert check_session(session).numbers["high"] > 0  # behaviour is read in pieces, too


# --- folders


def test_a_file_that_cannot_be_opened_is_a_finding_and_the_others_are_checked(folder):
    checks = check_folder(folder)
    assert [found.name for found in checks] == ["lab/ada.h5", "lab/bo.h5", "lab/cut.h5"]
    assert [found.verdict for found in checks] == ["ok", "ok", "1 error"]
    assert "cut off" in checks[2].errors[0] and has_errors(checks) and not has_errors(checks[:2])


def test_unit_ids_that_occur_twice_are_a_finding(tmp_path):
    made().save(tmp_path / "made.h5")
    with h5py.File(tmp_path / "made.h5", "a") as file:
        file["units/id"][1] = file["units/id"][0]
    [found] = check_folder(tmp_path)
    assert "has several units called" in found.errors[0]


def test_session_ids_that_occur_twice_are_an_error(tmp_path):
    for name in ("one", "other"):
        made().save(tmp_path / f"{name}.h5")
    simulate_session(0, session_id="third", duration=60.0).save(tmp_path / "third.h5")
    one, other, third = check_folder(tmp_path)
    assert one.errors == [
        "its id simulated/made is also that of other.h5; remove or rename all but one."
    ]
    assert "one.h5" in other.errors[0] and third.verdict == "ok"


def test_what_nobody_foresaw_does_not_keep_the_others_from_being_checked(folder, monkeypatch):
    real = check.SpikeScan

    def fail(session):
        if session.session_id == "ada":
            raise KeyError("surprise")
        return real(session)

    monkeypatch.setattr(check, "SpikeScan", fail)
    ada, bo, _ = check_folder(folder)
    assert (
        ada.errors == ["unforeseen KeyError: 'surprise'; please report this file."]
        and bo.verdict == "ok"
    )


def test_a_folder_without_sessions_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"has no session files \(\*.h5\); give the folder"):
        check_folder(tmp_path)
    with pytest.raises(DataError, match="nowhere does not exist; give the folder"):
        check_folder(tmp_path / "nowhere")


def test_the_table_puts_errors_first_and_sums_up(folder):
    checks = check_folder(folder)
    checks[1].warnings.append("odd.")
    lines = table(checks).splitlines()
    assert [line.split()[1] for line in lines[2:5]] == ["cut", "bo", "ada"]
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[6].startswith("error: lab/cut.h5: ") and lines[7] == "warning: lab/bo.h5: odd."
    assert lines[-1] == "3 sessions: 1 with errors, 1 with warnings, 1 ok."
    assert table(checks[:1]).splitlines()[-1] == "1 session: 0 with errors, 0 with warnings, 1 ok."


def test_the_table_of_long_names_and_numbers_fits_a_wide_terminal():
    found = check.SessionCheck("a/b.h5", "a/" + "c_20131009_random_target_reaching_of_old")
    found.numbers = {
        "units": 192,
        "spikes": 73_900_123,
        "minutes": 234.56,
        "rate": 56.7,
        "key": "cursor.vel",
        "sampling_rate": 1000.0,
        "missing": 0.01,
        "scaled": 12.3,
        "splits": {"train": 9000.0, "valid": 1300.0, "test": 2600.0},
    }
    lines = table([found]).splitlines()
    assert max(map(len, lines[:3])) <= 140
    assert "c_20131009_random_target_re…" in lines[2] and "64/9/18" in lines[2]


def test_recordings_of_reference_have_no_errors(shared):
    for name in ("real", "examples/brainsets_0.1.2", "examples/brainsets_0.2.2"):
        checks = check_folder(shared / name)
        assert not has_errors(checks), table(checks)
        assert any(found.verdict == "ok" for found in checks)


# --- report


def test_the_report_shows_every_session(folder, tmp_path):
    page = check_report.write_report(check_folder(folder), tmp_path / "page.html").read_text()
    for text in (
        str(folder),
        "3 sessions: 1 with errors",
        "File lab/ada.h5.",
        "No findings.",
        "cut off",
        "cursor.vel",
    ):
        assert text in page
    pictures = re.findall(r"data:image/png;base64,([\w+/=]+)", page)
    assert len(pictures) == 2 and all(
        base64.b64decode(text).startswith(b"\x89PNG") for text in pictures
    )
    assert "Below are" not in page


def test_the_report_draws_only_the_first_of_many(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(check_report, "MOST_PICTURES", 2)
    page = check_report.write_report(check_folder(folder), tmp_path / "page.html").read_text()
    assert "Below are 2 of the 3 sessions, those with findings first." in page
    assert (
        "File lab/cut.h5." in page and "File lab/ada.h5." in page and "File lab/bo.h5." not in page
    )


def test_a_broken_session_that_cannot_be_drawn_is_still_in_the_report(tmp_path):
    made(change=members(domain=interval([], []))).save(tmp_path / "a.h5")
    made(change=members(jump_outliers=Node("Interval", {}, {"start": np.zeros(2)}))).save(
        tmp_path / "b.h5"
    )
    page = check_report.write_report(check_folder(tmp_path), tmp_path / "page.html").read_text()
    assert "Error: the domain holds 0 s" in page
    assert (
        page.count("It cannot be drawn: a group of kind Interval has no array &#39;end&#39;") == 1
    )


def test_the_figure_shows_spikes_behaviour_and_intervals():
    session = made()
    figure, caption = check_report.session_figure(session, "cursor.vel")
    spike_axes, behaviour_axes, timeline = figure.axes
    start, stop = spike_axes.get_xlim()
    assert stop - start == 10.0 and behaviour_axes.get_xlim() == (start, stop)
    assert len(spike_axes.collections[0].get_segments()) == session.count_spikes(start, stop)
    x, y = (line.get_ydata() for line in behaviour_axes.get_lines()[1:])
    first, end = session.behaviour("cursor.vel").range(start, stop)
    np.testing.assert_allclose(
        np.stack([x, y], axis=1), session.behaviour("cursor.vel").values(first, end)
    )
    labels = [label.get_text() for label in timeline.get_yticklabels()]
    assert labels[:4] == ["domain", "train", "valid", "test"] and {"hold", "reach"} <= set(labels)
    for bar, name in zip(timeline.images, ("domain", "train_domain"), strict=False):
        pixels = np.asarray(bar.get_array())[0, :, 3]
        middles = (np.arange(len(pixels)) + 0.5) / len(pixels) * 60
        np.testing.assert_array_equal(pixels > 0, session.intervals(name).contains(middles))
        assert bar.get_extent()[:2] == [0, 60]
    assert f"from {start:,.1f} to {stop:,.1f} s" in caption


def test_coverage_is_the_share_of_each_bin():
    intervals = Intervals(np.array([0.5, 2.0, 2.25, 7.0]), np.array([1.0, 2.25, 4.0, 9.0]))
    found = check_report.coverage(intervals, np.arange(0.0, 9.0))
    np.testing.assert_allclose(found, [0.5, 0, 1, 1, 0, 0, 0, 1])
    np.testing.assert_allclose(
        check_report.coverage(intervals, np.array([2.1, 3.1, 4.1])), [1.0, 0.9]
    )


def test_a_session_without_behaviour_is_drawn_and_many_spikes_shorten_the_stretch(monkeypatch):
    monkeypatch.setattr(check_report, "MOST_TICKS", 50)
    session = made(change=without("cursor"))
    figure, _ = check_report.session_figure(session, None)
    assert len(figure.axes) == 2
    start, stop = figure.axes[0].get_xlim()
    assert stop - start < 10 and session.count_spikes(start, stop) < 150
