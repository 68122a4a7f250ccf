"""Servers without sense: each ends in bounded time, and the next address is tried."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pex_lightning.errors import UserError
from pex_lightning.files.downloads import transfer
from pex_lightning.files.downloads.download import DownloadError, download
from pex_lightning.files.downloads.transfer import Expected, Patience

CONTENT = np.random.default_rng(0).bytes(300_000)
KNOWN = Expected(len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
QUICK = Patience(connect=2, read=0.5, tries=2, backoff=0.001, slowest=50_000, window=0.3)

Handler = BaseHTTPRequestHandler


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder / "file.bin"


def send(handler: Handler, status: int, *headers: tuple[str, str]) -> None:
    handler.send_response(status)
    for header in headers:
        handler.send_header(*header)
    handler.end_headers()


def chunk(handler: Handler, block: bytes) -> None:
    handler.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")


def endless(*headers: tuple[str, str], status: int = 200) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        send(handler, status, ("Transfer-Encoding", "chunked"), *headers)
        for _ in range(10_000):
            chunk(handler, bytes(100_000))

    return answer


def endless_without_chunks(handler: Handler) -> None:
    send(handler, 200)
    for _ in range(10_000):
        handler.wfile.write(bytes(100_000))


def drip(handler: Handler) -> None:
    send(handler, 200, ("Content-Length", str(len(CONTENT))), ("ETag", '"a"'))
    for _ in range(400):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def byte_by_byte(handler: Handler) -> None:
    """One byte a connection."""
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    last = len(CONTENT) - 1
    span = ("Content-Range", f"bytes {start}-{last}/{len(CONTENT)}")
    length = ("Content-Length", str(len(CONTENT) - start))
    send(handler, 206 if start else 200, length, ("ETag", '"a"'), *([span] if start else []))
    handler.wfile.write(CONTENT[start : start + 1])


def announces(*lengths: str) -> Callable[[Handler], None]:
    def answer(handler: Handler) -> None:
        send(handler, 200, *(("Content-Length", length) for length in lengths))
        handler.wfile.write(CONTENT)

    return answer


def nonsense(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff" * 1_000)


def many_headers(handler: Handler) -> None:
    send(handler, 200, *((f"X-{number}", "x") for number in range(1_000)))


def redirects(to: str) -> Callable[[Handler], None]:
    return lambda handler: send(handler, 302, ("Location", to), ("Content-Length", "0"))


def ranges(content_range: str) -> Callable[[Handler], None]:
    """Break the first answer, and answer the request for the rest with this range."""

    def answer(handler: Handler) -> None:
        if "Range" in handler.headers:
            send(handler, 206, ("Content-Range", content_range), ("ETag", '"a"'))
        else:
            send(handler, 200, ("Content-Length", str(len(CONTENT))), ("ETag", '"a"'))
            handler.wfile.write(CONTENT[:100_000])

    return answer


HUGE = str(10**30)
ANSWERS: dict[str, tuple[Callable[[Handler], None], str]] = {
    "no length and no end": (endless(), f"more than {len(CONTENT)} bytes"),
    "no length, no chunks, no end": (endless_without_chunks, f"more than {len(CONTENT)} bytes"),
    "a right length and no end": (
        endless(("Content-Length", str(len(CONTENT)))),
        f"more than {len(CONTENT)} bytes",
    ),
    "a wrong length": (announces("17"), "17 bytes, expected 300000"),
    "a huge length": (announces(HUGE), f"announces '{HUGE}' bytes"),
    "a negative length": (announces("-1"), "announces '-1' bytes"),
    "a length in words": (announces("many"), "announces 'many' bytes"),
    "no digits": (announces("²"), "bytes, expected a number"),
    "thousands of digits": (announces("9" * 10_000), "bytes, expected a number"),
    "two lengths": (announces("300000", "300001"), "headers are not valid"),
    "a drip": (drip, "too slow"),
    "a byte a connection": (byte_by_byte, "tried 2 times"),
    "no HTTP": (nonsense, "no connection"),
    "a thousand headers": (many_headers, "headers"),
    "a web page": (lambda h: send(h, 200, ("Content-Type", "text/html")), "a web page"),
    "redirects to itself": (redirects("/bad"), "redirects more than 10 times"),
    "redirects to a file": (redirects("file:///etc/passwd"), "not an address"),
    "redirects to nonsense": (redirects("http://[::1"), "redirects to"),
    "redirects with a body without end": (
        endless(("Location", "/bad"), status=302),
        "redirects more than 10 times",
    ),
    "an error with a body without end": (endless(status=403), "refuses"),
    "a range of words": (ranges("bytes a-b/c"), "another part"),
    "a range before the end of what came": (ranges("bytes 5-9/300000"), "another part"),
    "a range backwards": (ranges("bytes 100000-5/300000"), "another part"),
    "a range of another size": (ranges("bytes 100000-300000/400000"), "another part"),
    "a range of thousands of digits": (ranges(f"bytes 100000-{'9' * 5_000}/*"), "another part"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_next_address_is_tried(server: Any, serve: Any, target: Path, name: str) -> None:
    answer, says = ANSWERS[name]
    serve("/bad", b"", answers=answer)
    serve("/good", CONTENT)
    bad, good = f"{server.url}/bad", f"{server.url}/good"
    begin = time.monotonic()
    known = Expected(len(CONTENT))
    with pytest.raises(DownloadError) as caught:
        download([bad], target, expected=known, progress=False, patience=QUICK)
    assert says in caught.value.failures[0][1]
    assert len(str(caught.value)) < 1_000
    found = download([bad, good], target, expected=KNOWN, progress=False, patience=QUICK)
    assert (found.url, target.read_bytes()) == (good, CONTENT)
    assert time.monotonic() - begin < 20


def test_all_reasons_are_listed(server: Any, serve: Any, target: Path) -> None:
    names = ["no length and no end", "a huge length", "redirects to itself", "a web page"]
    for number, name in enumerate(names):
        serve("/bad" if "itself" in name else f"/{number}", b"", answers=ANSWERS[name][0])
    urls = [f"{server.url}{path}" for path in server.files]
    with pytest.raises(DownloadError) as caught:
        download(urls, target, expected=KNOWN, progress=False, patience=QUICK)
    for url, name in zip(urls, names, strict=True):
        assert url in str(caught.value)
        assert ANSWERS[name][1] in str(caught.value)


def test_a_file_of_unknown_size_has_a_limit(
    server: Any, serve: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGEST", 500_000)
    serve("/endless", b"", answers=endless())
    serve("/large", bytes(600_000))
    serve("/good", CONTENT)
    urls = [f"{server.url}/{name}" for name in ("endless", "large")]
    with pytest.raises(DownloadError) as caught:
        download(urls, target, progress=False, patience=QUICK)
    assert "more than 500000 bytes came" in caught.value.failures[0][1]
    assert "600000 bytes, expected at most 500000" in caught.value.failures[1][1]
    assert not list(target.parent.iterdir())
    download([*urls, f"{server.url}/good"], target, progress=False, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_a_length_beyond_the_disk_that_nobody_confirms_is_not_the_end(
    server: Any, serve: Any, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 400_000))
    serve("/large", bytes(600_000))
    serve("/good", CONTENT)
    large, good = f"{server.url}/large", f"{server.url}/good"
    assert download([large, good], target, progress=False, patience=QUICK).url == good
    known = Expected(600_000)
    with pytest.raises(UserError, match=r"0\.6 MB are needed"):
        download([large, good], target, expected=known, progress=False, patience=QUICK)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_file_is_no_copy(target: Path, tmp_path: Path, kind: str) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DownloadError, match="not a file"):
        download([str(path)], target, progress=False, patience=QUICK)


@pytest.mark.parametrize(
    "note",
    [
        "[" * 100_000,
        "\0",
        '{"url": 1, "validator": "x", "size": 3}',
        '{"url": "URL", "validator": "a\\r\\nHost: other", "size": 300000}',
        '{"url": "URL", "validator": "ü", "size": -1}',
        json.dumps({"url": "URL", "validator": '"first"', "size": 10**30}),
    ],
)
def test_a_damaged_note_of_a_part_starts_over(
    server: Any, serve: Any, target: Path, note: str
) -> None:
    serve("/file", CONTENT)
    url = f"{server.url}/file"
    target.with_name("file.bin.part").write_bytes(CONTENT[:1_000])
    target.with_name("file.bin.part.json").write_text(note.replace("URL", url))
    download([url], target, expected=KNOWN, progress=False, patience=QUICK)
    assert target.read_bytes() == CONTENT
