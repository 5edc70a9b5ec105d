"""Files arrive whole and verified through every fault of a server, or leave what the next attempt
continues.
"""

import hashlib
import os
import resource
import signal
import threading

import numpy as np
import pytest
from archive_server import Fault, serving

from data_prep import fetch as fetch_module
from data_prep.fetch import CHUNK, DownloadError, RemoteFile, amount, fetch, file_size
from poyo_jax.errors import PoyoError

pytest.importorskip("pooch", reason="downloads need pooch: pip install 'poyo_jax[data]'")

SIZE = 300_000
CUT = 200_000
KEPT = CUT // CHUNK * CHUNK  # what arrived in whole chunks before the cut
CONTENT = np.random.default_rng(0).bytes(SIZE)
NAME = "sub-C_ses-CO-1.nwb"


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as archive:
        archive.contents[NAME] = CONTENT
        yield archive


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Seconds of every pause, none of which is waited for."""
    pauses = []
    monkeypatch.setattr(fetch_module.time, "sleep", pauses.append)
    return pauses


def get(archive, folder, *faults, moved=lambda _: None):
    """Fetch the file through faults, from a link that redirects to the content."""
    archive.faults[f"content/{NAME}"] = iter(faults)
    fetch(remote_file(archive), folder / NAME, moved)


def remote_file(archive):
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    return RemoteFile(NAME, f"{archive.dandi_api}/assets/{NAME}/download/", SIZE, digest)


def for_ever(**fault):
    return [Fault(**fault)] * 20


def flip(content):
    """As long, and wrong at one place."""
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


def test_file_arrives_through_a_redirect(archive, tmp_path):
    get(archive, tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / NAME).read_bytes() == CONTENT
    assert [path for path, _ in archive.asked] == [
        f"/api/assets/{NAME}/download/",
        f"/api/content/{NAME}",
    ]
    assert os.listdir(tmp_path / "new" / "folder") == [NAME]


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([Fault(cut=CUT)], [None, f"bytes={KEPT}-"]),
        ([Fault(cut=CUT), Fault(cut=70_000)], [None, f"bytes={KEPT}-", f"bytes={KEPT + CHUNK}-"]),
        (
            [Fault(cut=CUT), Fault(ranges=False, cut=100_000)],
            [None, f"bytes={KEPT}-", f"bytes={CHUNK}-"],
        ),
        ([Fault(announce=5)], [None, f"bytes={SIZE // CHUNK * CHUNK}-"]),
        ([Fault(announce=-100_000)], [None, f"bytes={CUT}-"]),
        ([Fault(cut=0)], [None, None]),
        ([Fault(status=503), Fault(status=503)], [None, None, None]),
        (
            [Fault(status=429), Fault(cut=CUT), Fault(status=500)],
            [None, None, f"bytes={KEPT}-", f"bytes={KEPT}-"],
        ),
    ],
)
def test_faults_that_pass_cost_no_more_than_the_rest(archive, tmp_path, faults, ranges):
    get(archive, tmp_path, *faults)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == ranges
    assert os.listdir(tmp_path) == [NAME]


def test_server_that_sends_the_whole_file_instead_of_the_rest(archive, tmp_path):
    heard = []
    get(archive, tmp_path, Fault(cut=CUT), *for_ever(ranges=False), moved=heard.append)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [None, f"bytes={KEPT}-"]
    assert sum(heard) == SIZE and -KEPT in heard


@pytest.mark.parametrize(
    "fault",
    [
        Fault(change=flip),
        Fault(change=lambda content: content + b"more"),
        Fault(change=lambda content: content + content),
    ],
)
def test_wrong_content_is_fetched_once_more_from_its_beginning(archive, tmp_path, fault):
    get(archive, tmp_path, fault)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [None, None]


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ({"change": flip}, f"its sha256 is {hashlib.sha256(flip(CONTENT)).hexdigest()}, not"),
        ({"change": lambda content: content + b"more"}, "sent more than the 300000 bytes listed"),
    ],
)
def test_content_that_stays_wrong_is_refused_and_not_kept(archive, tmp_path, fault, wrong):
    with pytest.raises(
        DownloadError, match=rf"{NAME} was fetched twice from http.*download/, .*{wrong}.* not kept"
    ):
        get(archive, tmp_path, *for_ever(**fault))
    assert archive.ranges(NAME) == [None, None]
    assert os.listdir(tmp_path) == []


def test_partial_file_of_other_content_is_fetched_again(archive, tmp_path):
    (tmp_path / f"{NAME}.partial").write_bytes(bytes(1000))
    get(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == ["bytes=1000-", None]


@pytest.mark.parametrize(
    ("size", "ranges"), [(SIZE + 1, [None]), (SIZE, [None]), (1, ["bytes=1-", None])]
)
def test_partial_file_of_any_size_is_no_obstacle(archive, tmp_path, size, ranges):
    heard = []
    (tmp_path / f"{NAME}.partial").write_bytes(bytes(size))
    get(archive, tmp_path, moved=heard.append)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == ranges and sum(heard) == SIZE


@pytest.mark.parametrize("fault", [Fault(shift=10), Fault(status=416)])
def test_another_part_than_asked_for_is_not_taken(archive, tmp_path, fault):
    get(archive, tmp_path, Fault(cut=CUT), fault)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [None, f"bytes={KEPT}-", None]


def test_pauses_grow_and_are_as_long_as_the_server_asks(archive, tmp_path, pauses):
    get(
        archive,
        tmp_path,
        Fault(status=503),
        Fault(status=503, retry_after="7"),
        Fault(status=503, retry_after="9999"),
    )
    assert pauses == [1, 7, fetch_module.LONGEST_PAUSE]


def test_attempt_that_brings_much_starts_the_pauses_anew(archive, tmp_path, pauses, monkeypatch):
    monkeypatch.setattr(fetch_module, "PROGRESS", CHUNK)
    get(archive, tmp_path, Fault(status=503), Fault(status=503), Fault(cut=CUT), Fault(status=503))
    assert pauses == [1, 4, 1, 4]


@pytest.mark.parametrize(
    ("fault", "attempts", "what"),
    [
        ({"status": 503}, 5, "the server answered 503 Service Unavailable"),
        ({"status": 403}, 1, "the server answered 403 Forbidden"),
        ({"status": 404}, 1, "the server answered 404 Not Found"),
        ({"cut": 10}, 5, "the connection was cut"),
    ],
)
def test_faults_that_stay_end_in_a_sentence(archive, tmp_path, pauses, fault, attempts, what):
    with pytest.raises(
        DownloadError,
        match=rf"{NAME} could not .* from http.*: {what}.* same command again to cont",
    ):
        get(archive, tmp_path, *for_ever(**fault))
    assert (
        len(archive.ranges(NAME)) == attempts
        and pauses == list(fetch_module.PAUSES)[: attempts - 1]
    )
    assert os.listdir(tmp_path) == []


def test_the_next_run_continues_where_the_last_one_gave_up(archive, tmp_path):
    with pytest.raises(DownloadError, match=r"196\.6 kB of 300\.0 kB are there"):
        get(archive, tmp_path, Fault(cut=CUT), *for_ever(status=503))
    assert os.listdir(tmp_path) == [f"{NAME}.partial"]
    archive.asked.clear()
    heard = []
    get(archive, tmp_path, moved=heard.append)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [f"bytes={KEPT}-"]
    assert heard[0] == KEPT and sum(heard) == SIZE


def test_silent_server_is_given_up(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.05)
    monkeypatch.setattr(fetch_module, "PAUSES", (1.0,))
    done = threading.Event()
    with pytest.raises(DownloadError, match=r"the server was silent for 0\.05 s\. 131\.1 kB of"):
        get(archive, tmp_path, *for_ever(cut=CHUNK, then=lambda: done.wait(5)))
    done.set()
    assert archive.ranges(NAME) == [None, f"bytes={CHUNK}-"]


def test_server_that_is_not_there(archive, tmp_path, pauses):
    file = remote_file(archive)
    nowhere = RemoteFile(NAME, "http://127.0.0.1:9/x", SIZE, file.digest)
    with pytest.raises(
        DownloadError, match=r"no connection; is this machine online\? \(Connection refused\)"
    ):
        fetch(nowhere, tmp_path / NAME, lambda _: None)
    assert len(pauses) == 4


def test_interrupt_leaves_what_the_next_run_continues(archive, tmp_path):
    release = threading.Event()

    def interrupt():
        while file_size(tmp_path / f"{NAME}.partial") < KEPT:
            release.wait(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        release.wait(5)

    with pytest.raises(KeyboardInterrupt):
        get(archive, tmp_path, Fault(cut=CUT, then=interrupt))
    release.set()
    assert os.listdir(tmp_path) == [f"{NAME}.partial"]
    assert (tmp_path / f"{NAME}.partial").read_bytes() == CONTENT[:KEPT]
    get(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [None, f"bytes={KEPT}-"]


def test_file_that_is_there_is_verified_and_not_fetched(archive, tmp_path):
    heard = []
    (tmp_path / NAME).write_bytes(CONTENT)
    get(archive, tmp_path, moved=heard.append)
    assert archive.asked == [] and heard == [SIZE]


@pytest.mark.parametrize("content", [flip(CONTENT), CONTENT[:-1], b""])
def test_damaged_file_is_replaced_once_the_right_one_is_there(archive, tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(DownloadError):
        get(archive, tmp_path, *for_ever(status=404))
    assert (tmp_path / NAME).read_bytes() == content
    get(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_two_processes_do_not_write_the_same_file(archive, tmp_path):
    def fetch_again(_):
        with pytest.raises(DownloadError, match=rf"another process is fetching .*{NAME}\. Wait"):
            fetch(remote_file(archive), tmp_path / NAME, lambda _: None)

    get(archive, tmp_path, moved=fetch_again)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_disk_that_fills_up_keeps_the_beginning(archive, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(
            PoyoError,
            match=r"\.partial cannot be written \(File too large\)\. Check that the disk has",
        ):
            get(archive, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / f"{NAME}.partial").read_bytes() == CONTENT[:100_000]
    get(archive, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert archive.ranges(NAME) == [None, "bytes=100000-"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")
def test_read_only_folder_is_refused(archive, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PoyoError, match=r"cannot be written .*choose another folder"):
        get(archive, tmp_path)


def test_folder_in_the_place_of_a_file_is_refused(archive, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoyoError, match=r"cannot be written .*choose another folder"):
        get(archive, tmp_path / "file")
    (tmp_path / NAME).mkdir()
    with pytest.raises(PoyoError, match=r"cannot be written .*Is a directory"):
        get(archive, tmp_path)


def test_nothing_is_written_through_a_link_or_a_pipe(archive, tmp_path):
    partial, other = tmp_path / f"{NAME}.partial", tmp_path / "other"
    other.write_text("precious")
    for plant in (partial.symlink_to, lambda _: os.mkfifo(partial)):
        plant(other)
        with pytest.raises(DownloadError, match=r"is no file but a link or a pipe.*Delete it"):
            get(archive, tmp_path)
        partial.unlink()
    assert other.read_text() == "precious"


NAMES = ["/etc/passwd", "../a.nwb", "sub/../../a.nwb", "a\\b.nwb", "", "a\0.nwb", "a\n.nwb", 7]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_of_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="no name for a file"):
        RemoteFile(name, "http://x", 1, "md5:" + "0" * 32)


def test_values_of_the_wrong_type_are_refused():
    good = ("a.nwb", "http://x", 1, "md5:" + "0" * 32)
    for place, value in ((1, None), (2, "1"), (2, -1), (2, 1.5), (2, True), (3, None), (3, 5)):
        wrong = [*good[:place], value, *good[place + 1 :]]
        with pytest.raises(ValueError, match=r"is no (address|size|digest)"):
            RemoteFile(*wrong)


def test_amounts_are_readable():
    assert [amount(n) for n in (0, 1500, 999_949, 2e6, 13e9, 2.5e12)] == [
        "0.0 kB",
        "1.5 kB",
        "999.9 kB",
        "2.0 MB",
        "13.0 GB",
        "2,500.0 GB",
    ]
