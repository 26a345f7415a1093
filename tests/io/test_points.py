"""Reading points: what is right comes back, what is wrong is named."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from point_prompt_defender.errors import PromptError
from point_prompt_defender.io import FORMATS, read_points, write_points

numbers = st.floats(-1e6, 1e6, allow_nan=False)
point_sets = st.lists(st.tuples(numbers, numbers, st.integers(0, 1)), min_size=1, max_size=30).filter(
    lambda rows: any(label for *_, label in rows)
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def as_csv(rows, separator=",", header=("x", "y", "label")):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator)
    writer.writerows([header, *rows])
    return buffer.getvalue()


def check(path, rows):
    coords, labels = read_points(path)
    assert coords.dtype == np.float64 and labels.dtype == np.int64
    np.testing.assert_array_equal(coords, np.array(rows)[:, :2])
    np.testing.assert_array_equal(labels, np.array(rows)[:, 2])


@quick
@given(rows=point_sets)
def test_json_round_trip(tmp_path, rows):
    path = tmp_path / "points.json"
    write_points(path, [row[:2] for row in rows], [row[2] for row in rows])
    check(path, rows)


@quick
@given(rows=point_sets, wrapped=st.booleans())
def test_json_objects(tmp_path, rows, wrapped):
    objects = [{"x": x, "y": y, "label": label, "note": "kept"} for x, y, label in rows]
    path = tmp_path / "points.json"
    path.write_text(json.dumps({"points": objects} if wrapped else objects))
    check(path, rows)


@quick
@given(rows=point_sets, separator=st.sampled_from(",;\t"))
def test_csv_round_trip(tmp_path, rows, separator):
    path = tmp_path / "points.csv"
    path.write_text(as_csv(rows, separator))
    check(path, rows)


def test_csv_columns_go_by_name_whatever_their_order_and_company(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text('\ufeffName,Label, Y,X\n"a, b",1,20,10\n\nc,0,40.5,30\n', encoding="utf-8")
    check(path, [(10, 20, 1), (30, 40.5, 0)])


@pytest.mark.parametrize("name", ["points", "points.dat", "points.csv"])
def test_content_counts_where_the_ending_is_unknown_or_wrong(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"points": [[1, 2]], "labels": [1]}')
    check(path, [(1, 2, 1)])


def test_csv_under_a_json_name(tmp_path):
    path = tmp_path / "points.json"
    path.write_text("x,y,label\n1,2,1\n")
    check(path, [(1, 2, 1)])


def test_duplicates_stay(tmp_path):
    path = tmp_path / "points.json"
    path.write_text('{"points": [[1, 2], [1, 2]], "labels": [1, 0]}')
    check(path, [(1, 2, 1), (1, 2, 0)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"points": [[1, 2]],\n "labels": [1}', "line 2"),
        ('{"points": [[1, 2]]}', r"points\[0\] has no label"),
        ('{"points": [[1, 2], [3, 4]], "labels": [1]}', "2 points, but 1 labels"),
        ('{"points": [[1, 2]], "labels": 1}', '"labels"'),
        ('{"points": [[1, 2], [3]], "labels": [1, 0]}', r"points\[1\] must be \[x, y\]"),
        ('{"points": [[1, "2"]], "labels": [1]}', r"points\[0\]\[1\] must be a number"),
        ('{"points": [[1, true]], "labels": [1]}', r"points\[0\]\[1\] must be a number"),
        ('{"points": [[1, null]], "labels": [1]}', r"points\[0\]\[1\]"),
        ('{"points": [[NaN, 2]], "labels": [1]}', r"points\[0\]\[0\] must be a finite"),
        ('{"points": [[1e999, 2]], "labels": [1]}', r"points\[0\]\[0\] must be a finite"),
        ('{"points": [[1' + "0" * 400 + ', 2]], "labels": [1]}', "a huge number"),
        ('{"points": [[1' + "0" * 5000 + ', 2]], "labels": [1]}', "absurd numbers"),
        ("[" * 100_000, "absurd numbers or nesting"),
        ('{"points": [[1, 2]], "labels": [2]}', r"labels\[0\] must be 1 \(positive\) or 0"),
        ('{"points": [[1, 2]], "labels": ["1"]}', r"labels\[0\]"),
        ('{"points": [[1, 2]], "labels": [-1]}', r"labels\[0\]"),
        ('{"points": [[1, 2]], "labels": [0]}', "no positive point"),
        ('{"points": [], "labels": []}', "There are no points"),
        ("[]", "There are no points"),
        ('{"points": [{"x": 1, "y": 2}]}', r'points\[0\] has no "label"'),
        ('{"points": [{"x": 1, "y": "b", "label": 1}]}', r"points\[0\].y"),
        ('{"points": 5}', 'no list "points"'),
        ('{"shapes": []}', 'no list "points"'),
        ("5", 'no list "points"'),
        ("", "line 1"),
    ],
)
def test_bad_json_is_named(tmp_path, text, message):
    path = tmp_path / "points.json"
    path.write_text(text)
    with pytest.raises(PromptError, match=message) as caught:
        read_points(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,label\n1,2,1\n3,b,0\n", "line 3, y, must be a number, but is 'b'"),
        ("x,y,label\n1,2,1\n3,4\n", "line 3 has 2 of 3 columns"),
        ("x,y,label\n1,2,3\n", "line 2, label, must be 1"),
        ("x,y,label\n1,nan,1\n", "line 2, y, must be a finite number"),
        ("x,y,label\n1,inf,1\n", "line 2, y, must be a finite number"),
        ("x,y,label\n1,1_0,1\n", "line 2, y, must be a number"),
        ("x,y,label\n1,,1\n", "line 2, y, must be a number"),
        ('x,y,label\n1,"2,1\n', "no CSV"),
        ("x,y,label\n1,2,0\n", "no positive point"),
        ("x,y,label\n", "There are no points"),
        ("x,y\n1,2\n", "no column 'label'"),
        ("x,y,label,x\n1,2,1,5\n", "several columns 'x'"),
        ("1,2,1\n", "no column 'x'"),
        ("", "no column 'x'"),
    ],
)
def test_bad_csv_is_named(tmp_path, text, message):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(PromptError, match=message) as caught:
        read_points(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_are_no_points_at_all(tmp_path):
    with pytest.raises(PromptError, match="There is no file"):
        read_points(tmp_path / "absent.json")
    with pytest.raises(PromptError, match="is a folder"):
        read_points(tmp_path)
    for content, message in ((b"\xff\xfe\x00\x01", "UTF-8"), (b"hello", "none of the known formats .*JSON, CSV")):
        (tmp_path / "points.dat").write_bytes(content)
        with pytest.raises(PromptError, match=message):
            read_points(tmp_path / "points.dat")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["points.json", "points.csv", "points"]))
def test_mutated_files_give_points_or_a_sentence(tmp_path, data, name):
    text = data.draw(
        st.sampled_from(['{"points": [[10, 20.5], [3, 4]], "labels": [1, 0]}', "x,y,label\n10,20.5,1\n3,4,0\n"])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        coords, labels = read_points(path)
    except PromptError as error:
        assert str(path) in str(error)
    else:
        assert coords.shape == (len(labels), 2) and np.isfinite(coords).all() and np.isin(labels, (0, 1)).all()


def test_every_format_keeps_the_contract():
    for known in FORMATS:
        assert known.NAME and all(ending.startswith(".") for ending in known.EXTENSIONS)
        assert not known.matches("") and not known.matches("\x00")
