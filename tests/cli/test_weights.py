"""`ppd weights`, through the dispatcher."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from point_prompt_defender.cli.main import main
from point_prompt_defender.weights import MODELS, WeightFile, cached_path

CONTENT = b"weights" * 1000


@pytest.fixture(autouse=True)
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache and no npm, one tiny model, and a folder with its file."""
    monkeypatch.setenv("PPD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PPD_WEIGHTS", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = WeightFile(
        "net", "tiny", "1.0.0", "dist/net.bin", digest, len(CONTENT), "MIT", "test", ("http://127.0.0.1:9/",)
    )
    for model in list(MODELS):
        monkeypatch.delitem(MODELS, model)
    monkeypatch.setitem(MODELS, "tiny", (file,))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "net.bin").write_bytes(CONTENT)
    return tmp_path / "given"


def state(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["weights", *words, "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    return code, row["state"]


def test_missing_fetched_damaged_repaired(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state(capsys, "list") == (0, "missing")
    assert state(capsys, "verify") == (1, "missing")
    assert state(capsys, "fetch", "--from", str(given)) == (0, "ok")
    assert state(capsys, "list") == (0, "present")
    assert state(capsys, "verify", "tiny") == (0, "ok")
    cached_path(MODELS["tiny"][0]).write_bytes(CONTENT[:-1])
    assert state(capsys, "verify") == (1, "damaged")
    assert state(capsys, "fetch", "tiny", "--from", str(given / "net.bin")) == (0, "ok")


def test_the_table_for_people(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch", "--from", str(given)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ok       tiny net.bin")
    assert str(cached_path(MODELS["tiny"][0])) in out
    assert "fetching net.bin" in err


def test_a_fetch_that_fails_says_why_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "fetch"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("missing")
    last = err.strip().splitlines()[-1]
    assert last.startswith("ppd: net.bin of tiny could not be fetched") and "PPD_WEIGHTS" in last


def test_an_unknown_model_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify", "tiny", "tinny"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "ppd: There are no pinned weights for 'tinny'; did you mean 'tiny'?\n"


@pytest.mark.parametrize("words", [[], ["list"], ["fetch"], ["verify"]])
def test_help_has_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["weights", *words, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  ppd weights {' '.join(words)}".rstrip() in capsys.readouterr().out
