"""Downloads from servers that drop connections, send wrong bytes, or lack the file."""

import hashlib
import json
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from pex_lightning.errors import UserError
from pex_lightning.files.downloads.download import DownloadError, download
from pex_lightning.files.downloads.transfer import Expected, Patience
from pex_lightning.files.locks import locked

CONTENT = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(connect=2, read=0.3, tries=3, backoff=0.001)
HALF = 200_000


def get(target: Path, *urls: str, **kwargs: Any) -> Any:
    return download(urls, target, **{"progress": False, "patience": QUICK, **kwargs})


def reasons(target: Path, *urls: str, **kwargs: Any) -> list[str]:
    with pytest.raises(DownloadError) as caught:
        get(target, *urls, **kwargs)
    assert not target.exists()
    assert [url for url, _ in caught.value.failures] == list(urls)
    return [reason for _, reason in caught.value.failures]


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder / "file.bin"


def test_a_file_is_downloaded_and_nothing_else_stays(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT)
    found = get(target, f"{server.url}/file", expected=Expected(len(CONTENT), SHA256))
    assert target.read_bytes() == CONTENT
    assert (found.url, found.size, found.sha256) == (f"{server.url}/file", len(CONTENT), SHA256)
    assert left(target) == ["file.bin"]
    assert server.asked[0]["Accept-Encoding"] == "identity"


def test_a_connection_that_drops_is_resumed_where_it_broke(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT, drops=[HALF])
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT
    offset = int(server.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert HALF // 2 < offset <= HALF
    assert server.asked[1]["If-Range"] == '"first"'


def test_many_drops_are_outlasted_while_bytes_come(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, drops=[70_000] * 20)
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT
    assert len(server.asked) > QUICK.tries


def test_what_came_is_kept_for_the_next_call(server: Any, serve: Any, target: Path) -> None:
    # The server sends some of it and then, from that place on, nothing more.
    file = serve("/file", CONTENT, drops=[HALF, 0, 0, 0, 0])
    (reason,) = reasons(target, f"{server.url}/file")
    assert "connection broke after" in reason
    assert "tried 3 times" in reason
    kept = target.with_name("file.bin.part").stat().st_size
    file.drops.clear()
    get(target, f"{server.url}/file")
    assert server.ranges[-1] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.bin"]


def test_the_error_says_how_much_is_kept(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, drops=[HALF, 0, 0, 0, 0])
    with pytest.raises(UserError, match=r"0\.\d MB came and are kept"):
        get(target, f"{server.url}/file")


@pytest.mark.parametrize(
    "how",
    [{"ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"weak"'}}],
    ids=["range ignored", "nothing to know the version by", "weak etag"],
)
def test_what_cannot_be_resumed_is_started_over(
    server: Any, serve: Any, target: Path, how: dict[str, Any]
) -> None:
    serve("/file", CONTENT, drops=[HALF], **how)
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT


def test_a_date_serves_where_there_is_no_etag(server: Any, serve: Any, target: Path) -> None:
    date = "Sat, 01 Jun 2024 00:00:00 GMT"
    serve("/file", CONTENT, drops=[HALF], headers={"Last-Modified": date})
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT
    assert server.asked[1]["If-Range"] == date
    assert server.ranges[1] is not None


def test_a_file_that_changed_meanwhile_is_never_mixed(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    reasons(target, f"{server.url}/file")
    changed = CONTENT[::-1]
    serve("/file", changed, headers={"ETag": '"second"'})
    get(target, f"{server.url}/file")
    assert target.read_bytes() == changed


def test_a_server_that_resumes_a_changed_file_is_caught(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    reasons(target, f"{server.url}/file")
    changed = CONTENT[::-1]
    # It does not understand If-Range.
    serve("/file", changed, headers={"ETag": '"second"', "X-Old": '"first"'})
    get(target, f"{server.url}/file")
    assert target.read_bytes() == changed


def test_a_file_that_shrank_is_started_over(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    reasons(target, f"{server.url}/file")
    file = serve("/file", CONTENT[:1000], statuses=[416])
    get(target, f"{server.url}/file")
    assert target.read_bytes() == file.content


def test_bytes_of_one_address_are_not_continued_from_another(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/a", CONTENT, drops=[HALF, 0, 0, 0])
    serve("/b", CONTENT[::-1])
    get(target, f"{server.url}/a", f"{server.url}/b")
    assert target.read_bytes() == CONTENT[::-1]
    assert server.ranges[-1] is None


def test_an_address_that_fails_leaves_what_another_gave(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/a", CONTENT, drops=[HALF, 0, 0, 0])
    reasons(target, f"{server.url}/a", f"{server.url}/missing")
    serve("/a", CONTENT)
    get(target, f"{server.url}/missing", f"{server.url}/a")
    assert target.read_bytes() == CONTENT
    assert server.ranges[-1] is not None


def test_a_damaged_part_is_noticed_and_started_over(server: Any, serve: Any, target: Path) -> None:
    file = serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    reasons(target, f"{server.url}/file")
    part = target.with_name("file.bin.part")
    part.write_bytes(bytes(part.stat().st_size))
    file.drops.clear()
    get(target, f"{server.url}/file", expected=Expected(None, SHA256))
    assert target.read_bytes() == CONTENT


def test_a_part_that_nobody_describes_is_not_continued(
    server: Any, serve: Any, target: Path
) -> None:
    target.with_name("file.bin.part").write_bytes(b"of somebody else")
    serve("/file", CONTENT)
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_complete_part_needs_no_network(server: Any, serve: Any, target: Path) -> None:
    # Killed between the last byte and the renaming.
    target.with_name("file.bin.part").write_bytes(CONTENT)
    note = {"url": f"{server.url}/file", "validator": '"first"', "size": len(CONTENT)}
    target.with_name("file.bin.part.json").write_text(json.dumps(note))
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENT[:-1] + b"?", f"expected {SHA256}"),
        (CONTENT[:-1], f"{len(CONTENT) - 1} bytes, expected {len(CONTENT)}"),
    ],
    ids=["right length", "wrong length"],
)
def test_wrong_bytes_are_dropped_and_the_next_address_tried(
    server: Any, serve: Any, target: Path, content: bytes, said: str
) -> None:
    serve("/wrong", content)
    serve("/right", CONTENT)
    known = Expected(len(CONTENT), SHA256)
    (reason,) = reasons(target, f"{server.url}/wrong", expected=known)
    assert reason.startswith("wrong bytes: ")
    assert said in reason
    assert left(target) == []
    get(target, f"{server.url}/wrong", f"{server.url}/right", expected=known)
    assert target.read_bytes() == CONTENT


def test_a_body_shorter_than_announced_is_not_a_file(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, headers={}, drops=[HALF] * 9)
    (reason,) = reasons(target, f"{server.url}/file")
    assert "connection broke after" in reason


def test_an_answer_without_length_is_checked_afterwards(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT, sends_length=False, drops=[HALF])
    (reason,) = reasons(target, f"{server.url}/file", expected=Expected(len(CONTENT), SHA256))
    assert f"{HALF} bytes, expected {len(CONTENT)}" in reason
    get(target, f"{server.url}/file", expected=Expected(len(CONTENT), SHA256))
    assert target.read_bytes() == CONTENT


def test_a_login_page_is_not_a_file(server: Any, serve: Any, target: Path) -> None:
    serve("/file", b"<html>please log in</html>", headers={"Content-Type": "text/html"})
    (reason,) = reasons(target, f"{server.url}/file")
    assert "a web page" in reason
    assert "login" in reason


def test_encoded_bytes_are_refused(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, headers={"Content-Encoding": "gzip"})
    (reason,) = reasons(target, f"{server.url}/file")
    assert "gzip" in reason


def test_an_inspection_has_the_last_word(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT)
    (reason,) = reasons(target, f"{server.url}/file", inspect=lambda path: "is not a picture")
    assert reason == "wrong bytes: is not a picture"
    assert left(target) == []


def test_servers_that_fail_for_a_while_are_asked_again(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT, statuses=[500, 503])
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT


def test_each_address_has_its_own_reason(server: Any, serve: Any, target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        serve("/forbidden", CONTENT, statuses=[403])
        serve("/failing", CONTENT, statuses=[500] * 9)
        urls = [f"{server.url}/{name}" for name in ("missing", "forbidden", "failing")]
        missing, forbidden, failing, refused, strange = reasons(
            target, *urls, closed, "gopher://host/file"
        )
    assert "not there" in missing
    assert "404" in missing
    assert "403" in forbidden
    assert "500" in failing
    assert "tried 3 times" in failing
    assert refused.startswith("no connection (Connection refused)")
    assert "not an address" in strange
    # What is final is not asked twice.
    assert [headers["path"] for headers in server.asked].count("/missing") == 1


def test_a_host_without_name_is_named_as_such(
    monkeypatch: pytest.MonkeyPatch, target: Path
) -> None:
    def offline(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    (reason,) = reasons(target, "http://mirror.invalid/file")
    assert reason.startswith("no connection (Name or service not known)")


def test_a_server_that_stalls_is_left(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, stalls=0)
    (reason,) = reasons(target, f"{server.url}/file", patience=Patience(1, 0.05, 2, 0.001))
    assert "timed out" in reason


def test_credentials_stay_out_of_messages_and_files(server: Any, serve: Any, target: Path) -> None:
    serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    url = f"{server.url}/file".replace("http://", "http://me:secret@")
    with pytest.raises(DownloadError) as caught:
        get(target, url)
    assert "secret" not in str(caught.value)
    assert "secret" not in target.with_name("file.bin.part.json").read_text()
    serve("/file", CONTENT)
    assert "secret" not in get(target, url).url
    assert "Authorization" in server.asked[-1]
    assert server.ranges[-1] is not None


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_local_path_is_copied(tmp_path: Path, target: Path, form: str) -> None:
    origin = tmp_path / "origin.bin"
    origin.write_bytes(CONTENT)
    found = get(target, form.format(origin))
    assert target.read_bytes() == origin.read_bytes() == CONTENT
    assert found.sha256 == SHA256


def test_a_local_path_without_file_says_so(tmp_path: Path, target: Path) -> None:
    (reason,) = reasons(target, str(tmp_path / "missing"))
    assert "No such file" in reason


def test_a_full_disk_is_told_before_the_download(
    server: Any, serve: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("/file", CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 10))
    with pytest.raises(UserError, match=r"0\.4 MB are needed and 0\.0 MB are free.*--cache_dir"):
        get(target, f"{server.url}/file")


def test_a_disk_that_fills_up_meanwhile_keeps_what_came(
    server: Any, serve: Any, target: Path
) -> None:
    serve("/file", CONTENT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Writing fails after so many bytes, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        with pytest.raises(UserError, match=r"File too large.*0\.2 MB are kept"):
            get(target, f"{server.url}/file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    get(target, f"{server.url}/file")
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert target.read_bytes() == CONTENT


def test_ctrl_c_keeps_what_came_and_says_so(
    server: Any,
    serve: Any,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    serve("/file", CONTENT)
    blocks = [CONTENT[: 64 * 1024]]

    def interrupted(self: Any, size: int, **kwargs: Any) -> bytes:
        if not blocks:
            raise KeyboardInterrupt
        return blocks.pop()

    monkeypatch.setattr(urllib3.HTTPResponse, "read1", interrupted)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        get(target, f"{server.url}/file")
    assert "0.1 MB came and are kept" in caplog.text
    monkeypatch.undo()
    get(target, f"{server.url}/file")
    assert server.ranges[-1] == f"bytes={64 * 1024}-"
    assert target.read_bytes() == CONTENT


def test_the_old_file_stays_until_the_new_one_is_whole(
    server: Any, serve: Any, target: Path
) -> None:
    target.write_bytes(b"old")
    file = serve("/file", CONTENT, drops=[HALF, 0, 0, 0])
    with pytest.raises(DownloadError):
        get(target, f"{server.url}/file")
    assert target.read_bytes() == b"old"
    file.drops.clear()
    get(target, f"{server.url}/file")
    assert target.read_bytes() == CONTENT


def test_a_bar_shows_the_bytes_and_starts_where_it_resumes(
    server: Any, serve: Any, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("/file", CONTENT, drops=[HALF])
    get(target, f"{server.url}/file", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "file.bin: 100%" in shown.err
    first, broken, resumed, *_ = shown.err.split("file.bin: ")[1:]
    assert first.startswith("  0%"), shown.err
    assert resumed[:4] == broken[:4] != "  0%", shown.err


def test_a_killed_process_leaves_what_the_next_resumes(
    server: Any, serve: Any, target: Path
) -> None:
    file = serve("/file", CONTENT, stalls=HALF)
    script = (
        "import sys; from pathlib import Path;"
        "from pex_lightning.files.downloads.download import download;"
        "download([sys.argv[1]], Path(sys.argv[2]), progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, f"{server.url}/file", str(target)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    part = target.with_name("file.bin.part")
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 3 * 64 * 1024):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    kept = part.stat().st_size
    file.stalls = None
    get(target, f"{server.url}/file")
    assert server.ranges == [None, f"bytes={kept}-"]
    assert target.read_bytes() == CONTENT


def test_a_lock_ends_with_its_process_and_leaves_no_file(target: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from pex_lightning.files.locks import *\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    with locked(target):
        pass
    assert left(target) == []
