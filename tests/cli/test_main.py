"""The dispatcher: commands, exit codes, one sentence an error; and what the commands share."""

from __future__ import annotations

import argparse
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import point_prompt_defender as ppd
from point_prompt_defender.cli import common, weights
from point_prompt_defender.cli.main import COMMANDS, main

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, **options)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"ppd {ppd.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in COMMANDS)
    assert "example:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "example" in out and f"ppd {name}" in out.split("example")[1]


def test_help_is_light() -> None:
    code = (
        "import sys; from point_prompt_defender.cli.main import build_parser; build_parser()\n"
        "print({'torch', 'numpy', 'onnxruntime', 'matplotlib', 'transformers', 'rich'} & set(sys.modules))"
    )
    assert python(code).stdout == "set()\n"


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import sys, point_prompt_defender as ppd; print('torch' in sys.modules, 'numpy' in sys.modules)\n"
        "assert set(ppd.__all__) <= set(dir(ppd)); print(ppd.PointPrompts.__name__, ppd.load_segmenter.__name__)"
    )
    assert python(code).stdout == "False False\nPointPrompts load_segmenter\n"
    with pytest.raises(AttributeError, match="no attribute 'load_segmentor'"):
        _ = ppd.load_segmentor  # type: ignore[attr-defined]


def test_every_public_name_loads() -> None:
    for name in ppd.__all__:
        assert getattr(ppd, name) is not None


@pytest.mark.parametrize(("words", "said"), [([], "COMMAND"), (["refin"], "invalid choice"), (["weights"], "ACTION")])
def test_wrong_use_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "--help`" in line


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit code where a command raises."""

    def run(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(weights, "run", run)
    return main(["weights", "list"])


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ppd.ImageError("The image is no image."), 2, "ppd: The image is no image.\n"),
        (KeyboardInterrupt(), 130, "ppd: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "out.json"), 2, "ppd: No space left on device (out.json); "),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(monkeypatch, error) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(said) and err.count("\n") == 1


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "point_prompt_defender", "weights", "list"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"a": np.float32(0.5), "b": np.arange(3), "c": Path("x") / "y"})
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": [0, 1, 2], "c": os.path.join("x", "y")}
    with pytest.raises(TypeError, match="set can't be written as JSON"):
        common.print_json({1, 2})


def test_output_folder(tmp_path: Path) -> None:
    folder = common.output_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and os.listdir(folder) == []
    assert common.output_folder(folder) == folder
    (tmp_path / "file").write_text("")
    with pytest.raises(ppd.PPDError, match=r"file/sub can't be written to \(.*\); name another"):
        common.output_folder(tmp_path / "file" / "sub")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a read-only folder that binds root too")
def test_output_folder_that_is_read_only() -> None:
    with pytest.raises(ppd.PPDError, match="can't be written to"):
        common.output_folder("/proc/self")


def test_progress_bar_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress_bar() as bar:
        bar.update(bar.add_task("work", total=3), completed=3)
    assert capsys.readouterr().err == ""
