from __future__ import annotations

import json
import os

import pytest

from point_prompt_defender.io.files import replace_atomically, write_json


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "result.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), replace_atomically(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_nan_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "result.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_folders_are_made_and_permissions_are_the_usual_ones(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "new" / "folder" / "r.json"
    plain.write_text("")
    write_json(ours, [1])
    assert os.stat(ours).st_mode == os.stat(plain).st_mode
