"""Resumable downloads, against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from point_prompt_defender import WeightsError
from point_prompt_defender import download as download_module
from point_prompt_defender.download import download, sha256_of

CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at every path; the settings are how it misbehaves."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.ranges = True  # whether Range is understood
        self.shift = 0  # how far off the range is that it sends
        self.cut_after: list[int] = []  # bytes after which each of the next connections breaks
        self.statuses: list[int] = []  # status codes that the next requests are refused with
        self.pause = 0.0  # seconds between pieces
        self.requests: list[str | None] = []  # the Range header of each request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/file"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            start += self.shift
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        body = self.content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.cut_after:
            body = body[: self.cut_after.pop(0)]
        try:
            for at in range(0, len(body), 50_000):
                handler.wfile.write(body[at : at + 50_000])
                time.sleep(self.pause)
        except ConnectionError:
            pass

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "PAUSE", 0.0)
    server = Server()
    yield server
    server.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


@pytest.fixture
def part(target: Path) -> Path:
    return target.with_name(f"file.bin.{SHA256[:12]}.part")


def bring(target: Path, *urls: str, **told: object) -> None:
    download(urls, target, size=len(CONTENT), sha256=SHA256, **told)


def test_brings_the_file_and_tells_how_far_it_is(server: Server, target: Path) -> None:
    told: list[tuple[str, int, int]] = []
    bring(target, server.url, progress=lambda *args: told.append(args))
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["file.bin"]
    done = [d for _, d, _ in told]
    assert done == sorted(done) and done[0] == 0 and done[-1] == len(CONTENT)
    assert {(name, total) for name, _, total in told} == {("file.bin", len(CONTENT))}


def test_goes_on_from_a_part_file(server: Server, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:300_000])
    bring(target, server.url)
    assert target.read_bytes() == CONTENT and not part.exists()
    assert server.requests == ["bytes=300000-"]


def test_a_whole_part_file_needs_no_request(server: Server, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    bring(target, server.url)
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_begins_anew_where_the_server_knows_no_ranges(server: Server, target: Path, part: Path) -> None:
    server.ranges = False
    part.write_bytes(CONTENT[:300_000])
    bring(target, server.url)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-"]


def test_a_lost_connection_is_resumed(server: Server, target: Path) -> None:
    server.cut_after = [300_000, 100_000]
    bring(target, server.url)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=400000-"]


@pytest.mark.parametrize("left_over", [b"x" * 300_000, b"x" * len(CONTENT), b"x" * 800_000])
def test_a_part_of_another_file_is_discarded(server: Server, target: Path, part: Path, left_over: bytes) -> None:
    part.write_bytes(left_over)
    bring(target, server.url)
    assert target.read_bytes() == CONTENT


def test_a_part_of_an_older_pin_is_not_touched_upon(server: Server, target: Path) -> None:
    target.with_name("file.bin.0123456789ab.part").write_bytes(b"x" * 300_000)
    bring(target, server.url)
    assert server.requests == [None]


def test_a_wrong_range_is_never_taken_for_the_right_one(server: Server, target: Path, part: Path) -> None:
    server.shift = 10
    part.write_bytes(CONTENT[:300_000])
    bring(target, server.url)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["bytes=300000-", None]


def test_a_connection_that_always_breaks_leaves_the_part_and_no_file(server: Server, target: Path, part: Path) -> None:
    server.cut_after = [100_000, 100_000, 100_000]
    with pytest.raises(WeightsError, match="ended after 300000 of 700000 bytes"):
        bring(target, server.url)
    assert part.read_bytes() == CONTENT[:300_000]
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"y" + CONTENT[1:], "wrong SHA-256"), (CONTENT + b"more", "larger than the pinned file")],
)
def test_another_file_is_refused(server: Server, target: Path, content: bytes, reason: str) -> None:
    server.content = content
    target.write_bytes(b"what was there")
    with pytest.raises(WeightsError, match=reason):
        bring(target, server.url)
    assert server.requests == [None]
    assert target.read_bytes() == b"what was there"
    assert os.listdir(target.parent) == ["file.bin"]


def test_the_next_address_is_tried(server: Server, target: Path) -> None:
    server.statuses = [404]
    bring(target, "http://127.0.0.1:9/nobody-listens", server.url, server.url)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_an_overloaded_server_is_asked_again(server: Server, target: Path) -> None:
    server.statuses = [503, 429]
    bring(target, server.url)
    assert target.read_bytes() == CONTENT


def test_every_reason_is_named(server: Server, target: Path) -> None:
    server.statuses = [404]
    with pytest.raises(WeightsError, match="404") as caught:
        bring(target, server.url, "http://127.0.0.1:9/file")
    assert "127.0.0.1:9/file: no connection" in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_behind(server: Server, target: Path, part: Path) -> None:
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        bring(target, server.url)
    assert os.listdir(target.parent) == []


def test_an_interrupt_keeps_the_part(server: Server, target: Path, part: Path) -> None:
    def interrupt(_: str, done: int, __: int) -> None:
        if done > 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(target, server.url, progress=interrupt)
    assert part.read_bytes() == CONTENT[: part.stat().st_size] and part.stat().st_size > 200_000
    assert not target.exists()
    bring(target, server.url)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1] != server.requests[0]


def test_a_killed_process_leaves_no_half_file(server: Server, target: Path, part: Path) -> None:
    server.pause = 0.1
    code = (
        "import sys; from pathlib import Path; from point_prompt_defender import download as d; d.CHUNK = 50_000\n"
        f"d.download([{server.url!r}], Path({str(target)!r}), size={len(CONTENT)}, sha256={SHA256!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    for _ in range(200):
        if part.exists() and part.stat().st_size > 0:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert 0 < part.stat().st_size < len(CONTENT)
    assert not target.exists()
    server.pause = 0.0
    bring(target, server.url)
    assert target.read_bytes() == CONTENT


def test_sha256_of_agrees_with_hashlib(tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(CONTENT * 3)
    assert sha256_of(tmp_path / "some") == hashlib.sha256(CONTENT * 3).hexdigest()
