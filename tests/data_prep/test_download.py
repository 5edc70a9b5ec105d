"""What is there to fetch is said before the first byte, and fetched from either archive; the rest
is explained.
"""

import dataclasses
import logging
import os
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from archive_server import Fault, serving

from data_prep import download as download_module
from data_prep import fetch as fetch_module
from data_prep.catalogue import Dandiset, ZenodoRecord, find_entry
from data_prep.download import RECORD, Progress, download, plan
from data_prep.fetch import CHUNK, DownloadError
from poyo_jax.errors import DataError, MissingDependencyError

NAMES = {
    "dandi": [
        "sub-C/sub-C_ses-CO-1_x.nwb",
        "sub-C/sub-C_ses-RT-2_x.nwb",
        "sub-M/sub-M_ses-CO-3_x.nwb",
    ],
    "zenodo": ["indy_1_01.mat", "indy_2_01.mat", "loco_3_02.mat"],
}
OTHERS = {
    "dandi": ["sub-C/notes.txt", "sub-M/sub-M_obj-1.nwb"],
    "zenodo": ["loader.m", "broadband.mat"],
}
DATA_SETS = {
    "dandi": ("perich_miller_population_2018", Dandiset("000688", "0.1.2")),
    "zenodo": ("odoherty_sabes_nonhuman_2017", ZenodoRecord("77", (".mat",))),
}
FLINT = find_entry("flint_slutzky_accurate_2012")
SIZE = 100_000


@pytest.fixture
def pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(fetch_module.time, "sleep", pauses.append)
    return pauses


@pytest.fixture
def server(monkeypatch, pauses):
    for package in ("dandi.dandiapi", "pooch"):
        pytest.importorskip(
            package, reason=f"downloads need {package}: pip install 'poyo_jax[data]'"
        )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        monkeypatch.setattr(download_module, "DANDI_API", server.dandi_api)
        monkeypatch.setattr(download_module, "ZENODO_API", server.zenodo_api)
        yield server


@pytest.fixture(params=["dandi", "zenodo"])
def kind(request):
    return request.param


@pytest.fixture
def data_set(server, kind):
    """A data set of three files, which the local server has beside two others."""
    rng = np.random.default_rng(0)
    server.contents = {name: rng.bytes(SIZE) for name in NAMES[kind] + OTHERS[kind]}
    return small(kind)


def small(kind):
    name, archive = DATA_SETS[kind]
    return dataclasses.replace(find_entry(name), archive=archive, num_files=3)


def contents_asked(server):
    return [path.partition("/content/")[2] for path in server.paths() if "/content/" in path]


def assert_complete(server, folder, names):
    assert {name: (folder / name).read_bytes() for name in names} == {
        name: server.contents[name] for name in names
    }
    assert not [path for path in folder.rglob("*.partial")]


# --- plan and download


def test_plan_is_made_before_anything_is_fetched_or_written(server, data_set, tmp_path):
    folder = tmp_path / "raw"
    planned = plan(data_set, folder)
    assert not contents_asked(server) and not folder.exists()
    assert (len(planned.files), planned.num_verified, planned.num_unchecked) == (3, 0, 0)
    assert planned.missing_bytes == 3 * SIZE and planned.free_bytes == pytest.approx(
        shutil.disk_usage("/tmp").free, rel=0.1
    )
    text = str(planned)
    assert (
        data_set.name in text
        and str(data_set.archive) in text
        and str(folder) in text
        and "CC-BY-4.0" in text
    )
    assert (
        "3 of 3 files, 300.0 kB: 0 are there and verified, 0 are there to" in text
        and "300.0 kB to fetch into" in text
    )


def test_all_files_of_the_data_set_are_fetched_and_no_others(server, data_set, kind, tmp_path):
    paths = download(plan(data_set, tmp_path), progress=False)
    assert paths == [tmp_path / name for name in NAMES[kind]]
    assert_complete(server, tmp_path, NAMES[kind])
    assert contents_asked(server) == NAMES[kind]
    assert not [
        path for path in server.paths() if path.endswith(".nwb/")
    ]  # digests come with the list
    assert data_set.find(tmp_path) == paths


def test_files_of_a_record_with_another_ending_are_left_out(server, tmp_path):
    server.contents = {"indy_1_01.mat": b"x", "indy_1_01.txt": b"x"}
    planned = plan(dataclasses.replace(small("zenodo"), raw_files=("indy_*",)), tmp_path)
    assert [file.name for file in planned.files] == ["indy_1_01.mat"]


def test_digests_are_asked_for_one_by_one_where_the_list_has_none(server, tmp_path):
    server.contents, server.lists_metadata = {name: b"x" for name in NAMES["dandi"]}, False
    download(plan(small("dandi"), tmp_path), progress=False)
    assert_complete(server, tmp_path, NAMES["dandi"])
    assert sum(path.endswith(".nwb/") for path in server.paths()) == 3


def test_what_is_verified_is_not_read_again(server, data_set, kind, tmp_path, monkeypatch):
    download(plan(data_set, tmp_path), progress=False)
    server.asked.clear()
    monkeypatch.setattr(download_module, "fetch", pytest.fail)
    planned = plan(data_set, tmp_path)
    assert (planned.num_verified, planned.missing_bytes) == (3, 0)
    assert "3 are there and verified" in str(planned) and "\n0.0 kB to fetch" in str(planned)
    assert len(download(planned, progress=False)) == 3


def test_file_whose_time_changed_is_verified_again(server, data_set, kind, tmp_path):
    first, second, _ = download(plan(data_set, tmp_path), progress=False)
    server.asked.clear()
    os.utime(first, ns=(1, 1))
    second.write_bytes(bytes(SIZE))
    planned = plan(data_set, tmp_path)
    assert (planned.num_verified, planned.num_unchecked, planned.missing_bytes) == (1, 2, 0)
    download(planned, progress=False)
    assert contents_asked(server) == [NAMES[kind][1]]
    assert_complete(server, tmp_path, NAMES[kind])
    assert plan(data_set, tmp_path).num_verified == 3


def test_file_that_the_archive_lists_with_another_digest_is_fetched_again(
    server, data_set, kind, tmp_path
):
    download(plan(data_set, tmp_path), progress=False)
    server.contents[NAMES[kind][0]] = bytes(SIZE)
    planned = plan(data_set, tmp_path)
    assert (planned.num_verified, planned.num_unchecked) == (2, 1)
    download(planned, progress=False)
    assert_complete(server, tmp_path, NAMES[kind])


@pytest.mark.parametrize("record", ["", "[1]", "{}", '{"indy_1_01.mat": 3}', "\x00"])
def test_damaged_record_costs_one_more_reading(server, data_set, kind, tmp_path, record):
    download(plan(data_set, tmp_path), progress=False)
    (tmp_path / RECORD).write_text(record)
    server.asked.clear()
    download(plan(data_set, tmp_path), progress=False)
    assert not contents_asked(server) and plan(data_set, tmp_path).num_verified == 3


def test_download_that_failed_is_continued(server, data_set, kind, tmp_path):
    second = NAMES[kind][1]
    server.faults[f"content/{second}"] = iter([Fault(cut=SIZE - 1)] + [Fault(status=503)] * 4)
    with pytest.raises(DownloadError, match=f"{second} could not be fetched .* same command again"):
        download(plan(data_set, tmp_path), progress=False)
    planned = plan(data_set, tmp_path)
    assert planned.num_verified == 1 and planned.missing_bytes == 2 * SIZE - CHUNK
    server.asked.clear()
    download(planned, progress=False)
    assert (
        server.ranges(second) == [f"bytes={CHUNK}-"] and contents_asked(server) == NAMES[kind][1:]
    )
    assert_complete(server, tmp_path, NAMES[kind])


def test_disk_without_space_is_refused_before_the_first_byte(
    server, data_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(download_module, "_free_bytes", lambda folder: 3 * SIZE - 1)
    planned = plan(data_set, tmp_path)
    with pytest.raises(
        DownloadError,
        match=r"needs 300\.0 kB more in .*, where only 300\.0 kB are free. Free some sp",
    ):
        download(planned, progress=False)
    assert not contents_asked(server) and not os.listdir(tmp_path)


# --- choosing


@pytest.mark.parametrize("kind", ["dandi"], indirect=True)
@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["sub-C_*"], [0, 1]),
        (["sub-M/*"], [2]),
        (["*_ses-CO-*"], [0, 2]),
        (["sub-C_ses-RT-2_x.nwb", "sub-M_*"], [1, 2]),
        (["*", "*.nwb"], [0, 1, 2]),
    ],
)
def test_files_are_chosen_by_name_or_path(server, data_set, tmp_path, patterns, chosen):
    planned = plan(data_set, tmp_path, patterns)
    assert [file.name for file in planned.files] == [NAMES["dandi"][k] for k in chosen]
    assert f"{len(chosen)} of 3 files" in str(planned)


@pytest.mark.parametrize("kind", ["dandi"], indirect=True)
@pytest.mark.parametrize("pattern", ["sub-c_ses-CO-1_x.nwb", "notes.txt", "", "C"])
def test_pattern_that_fits_nothing_is_refused_with_examples(server, data_set, tmp_path, pattern):
    with pytest.raises(
        DataError,
        match=f"no file of perich_.* fits '{pattern}'.* 3 files are named like sub-C_ses-CO-1",
    ):
        plan(data_set, tmp_path, ["sub-C_*", pattern])


@pytest.mark.parametrize("kind", ["dandi"], indirect=True)
def test_pattern_that_nearly_fits_gets_a_suggestion(server, data_set, tmp_path):
    with pytest.raises(DataError, match=r"Did you mean 'sub-M_ses-CO-3_x\.nwb'"):
        plan(data_set, tmp_path, ["sub-M_ses-C0-3_x.nwb"])


# --- archives that fail


@pytest.mark.parametrize("version", ["draft", "", "latest", "0.1"])
def test_draft_is_refused_before_it_is_asked_for(server, tmp_path, version):
    draft = dataclasses.replace(small("dandi"), archive=Dandiset("000688", version))
    with pytest.raises(
        DataError, match=f"version {version} is not a published version, .* Name one, such as 0"
    ):
        plan(draft, tmp_path)
    assert server.asked == []


def test_version_that_is_not_there(server, tmp_path, caplog):
    gone = dataclasses.replace(small("dandi"), archive=Dandiset("000688", "0.1.3"))
    with pytest.raises(
        DownloadError,
        match=r"DANDI 000688, version 0\.1\.3 could not .* answered 404 Not Found\. Nothing was",
    ):
        plan(gone, tmp_path)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_record_that_is_not_there(server, tmp_path):
    gone = dataclasses.replace(small("zenodo"), archive=ZenodoRecord("78", (".mat",)))
    with pytest.raises(
        DownloadError,
        match=r"Zenodo record 78 could not .*zenodo/records/78\): .* answered 404 Not Found",
    ):
        plan(gone, tmp_path)


LISTS = {"dandi": "/assets/", "zenodo": "/records/77"}


def test_list_that_comes_late_is_waited_for(server, data_set, kind, tmp_path, pauses):
    server.faults[LISTS[kind]] = iter([Fault(status=503)] * 2)
    assert len(plan(data_set, tmp_path).files) == 3 and len(pauses) == 2


def test_list_that_never_comes_ends_in_a_sentence(server, data_set, kind, tmp_path):
    server.faults[LISTS[kind]] = iter([Fault(status=503)] * 40)
    with pytest.raises(
        DownloadError,
        match=r"could not be asked for its files \(http.*answered 503 Service Unavailable",
    ):
        plan(data_set, tmp_path)


def test_list_of_a_silent_server_is_given_up(server, data_set, kind, tmp_path, monkeypatch):
    done = threading.Event()
    for module in (download_module, fetch_module):
        monkeypatch.setattr(module, "TIMEOUT", 0.05)
    server.faults[LISTS[kind]] = iter([Fault(before=lambda: done.wait(5))] * 3)
    with pytest.raises(
        DownloadError, match=r"could not be asked .* the server was silent for 0\.05 s"
    ):
        plan(data_set, tmp_path)
    done.set()


@pytest.mark.parametrize("kind", ["dandi"], indirect=True)
def test_client_reports_no_use(server, data_set, tmp_path, monkeypatch):
    reports = []
    monkeypatch.delenv("DANDI_NO_ET", raising=False)
    reporter = types.SimpleNamespace(
        check_available_version=lambda *args, **kwargs: reports.append(args)
    )
    monkeypatch.setitem(sys.modules, "etelemetry", reporter)
    plan(data_set, tmp_path)
    assert reports == []


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"{}",
        b"[]",
        b'{"files": [{}], "next": null, "results": [{}]}',
        b'{"files": [{"key": 7}], "results": 7}',
    ],
)
def test_list_that_is_not_understood_ends_in_a_sentence(server, data_set, kind, tmp_path, answer):
    server.faults[LISTS[kind]] = iter([Fault(change=lambda _: answer)] * 3)
    with pytest.raises(
        DownloadError, match=r"was not understood \(.*\). Its protocol may have changed"
    ):
        plan(data_set, tmp_path)


def test_name_that_leads_out_of_the_folder_is_refused(server, data_set, kind, tmp_path):
    server.contents["../" + NAMES[kind][0]] = b"x"
    with pytest.raises(DownloadError, match=r"'\.\./.*' is no name for a file"):
        plan(data_set, tmp_path)


def test_archive_without_a_file_of_the_data_set(server, data_set, kind, tmp_path):
    server.contents = {name: b"x" for name in OTHERS[kind]}
    with pytest.raises(DownloadError, match=r"lists no file named like .*\*"):
        plan(data_set, tmp_path)


def test_no_network(server, kind, tmp_path, monkeypatch, pauses):
    monkeypatch.setattr(download_module, "DANDI_API", "http://127.0.0.1:9/api")
    monkeypatch.setattr(download_module, "ZENODO_API", "http://127.0.0.1:9/api")
    with pytest.raises(
        DownloadError,
        match=(
            r"\(http://127.0.0.1:9/api/.*no connection; is this machine online\? \(Connection"
            r" refused\)"
        ),
    ):
        plan(small(kind), tmp_path)
    assert pauses == [1, 4]


@pytest.mark.parametrize("package", ["requests", "pooch", "dandi.dandiapi"])
def test_missing_package_is_named(server, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependencyError, match=rf"{package.split('.')[0]}, .* pip install 'poyo_jax\[data\]'"
    ):
        plan(small("dandi"), tmp_path)
    assert server.asked == []


# --- by hand, progress, import


def test_files_behind_a_form_are_explained(tmp_path):
    folder = tmp_path / "flint"
    with pytest.raises(DataError) as caught:
        plan(FLINT, folder)
    text = str(caught.value)
    assert FLINT.archive.url in text and all(name in text for name in FLINT.archive.files)
    assert (
        f"python -m data_prep prepare {FLINT.name} --raw {folder}" in text
        and "nothing of it is there yet" in text
    )


def test_files_behind_a_form_that_are_there_are_named(tmp_path):
    (tmp_path / "Flint_2012_e2.mat").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"save Flint_2012_e1\.mat, Flint_2012_e3.* in .*\(Flint_2012_e2\.mat of it"
    ):
        plan(FLINT, tmp_path)
    (path,) = download(plan(FLINT, tmp_path, ["*_e2.mat"]), progress=False)
    assert path == tmp_path / "Flint_2012_e2.mat"


def test_all_files_behind_a_form_are_taken_as_they_are(tmp_path):
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "sub" / name for name in FLINT.archive.files]
    for path in paths:
        path.write_bytes(bytes(1000))
    planned = plan(FLINT, tmp_path)
    assert "5 of 5 files, 5.0 kB: all are there; the site gives no checksums" in str(planned)
    assert download(planned, progress=False) == paths and os.listdir(tmp_path) == ["sub"]


def test_progress_is_logged_where_no_terminal_is(caplog, monkeypatch, capfd):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(download_module.time, "monotonic", lambda: now[0])
    for show in (True, False):
        with Progress("set", 1_000_000, 3_000_000, show) as bar:
            for now[0] in (10.0, 31.0, 40.0):
                bar.move(500_000)
    assert [record.message for record in caplog.records] == ["set: 2.0 MB of 3.0 MB"]
    assert capfd.readouterr().err == ""


def test_importing_loads_no_client():
    code = (
        "import sys, data_prep.download; print([m for m in ('dandi', 'pooch', 'requests', 'jax') if"
        " m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    assert done.stdout == "[]\n"
