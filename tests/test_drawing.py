"""Pictures: checked by their pixels, with the colours and shapes that a person looks for."""

from __future__ import annotations

import numpy as np
import pytest

from point_prompt_defender.drawing import Panel, draw, figure
from point_prompt_defender.prompts import PointPrompts

GREY = np.full((120, 160, 3), 128, np.uint8)
PROMPTS = PointPrompts.checked([[40, 30], [120, 90]], [1, 0])


def pixels(panel, width=640):
    return np.asarray(draw(panel, width)).astype(int)


def around(picture, x, y, radius=10):
    """The neighbourhood of an image's pixel (x, y) in a picture four times as large."""
    at = round((x + 0.5) * 4), round((y + 0.5) * 4)
    return picture[at[1] - radius : at[1] + radius, at[0] - radius : at[0] + radius].reshape(-1, 3)


def share(patch, channel):
    """Of the pixels, how many have clearly more of one colour."""
    others = np.delete(patch, channel, 1).max(1)
    return np.mean(patch[:, channel] > others + 30)


def test_markers_lie_on_their_points_x_first_in_their_colours():
    picture = pixels(Panel(GREY, None, PROMPTS))
    assert share(around(picture, 40, 30), 1) > 0.2, "positive: green"
    assert share(around(picture, 120, 90), 0) > 0.15, "negative: red"
    assert share(around(picture, 30, 40), 1) == 0, "x and y must not be swapped"


def test_markers_differ_in_shape_too():
    alone = [pixels(Panel(GREY, None, PointPrompts(np.array([[80.0, 60.0]]), np.array([label])))) for label in (0, 1)]
    changed = [np.abs(p - 128).sum(2) > 30 for p in alone]
    assert np.mean(changed[0] ^ changed[1]) > 0.2 * np.mean(changed[0])


def test_only_dropped_points_change_when_crossed_out():
    kept, crossed = (pixels(Panel(GREY, None, PROMPTS, keep)) for keep in (None, np.array([True, False])))
    np.testing.assert_array_equal(around(kept, 40, 30), around(crossed, 40, 30))
    dark = [np.mean(around(p, 120, 90).max(1) < 70) for p in (kept, crossed)]
    assert dark[0] < 0.01 < 0.05 < dark[1]


def test_the_mask_is_tinted_inside_its_rim_and_nowhere_else():
    mask = np.zeros((120, 160), bool)
    mask[40:80, 60:100] = True
    far = PointPrompts.checked([[5, 5]], [1])
    picture = pixels(Panel(GREY, mask, far))
    assert share(picture[200:280, 280:360].reshape(-1, 3), 2) == 1, "blue inside"
    assert (picture[360:460, 60:200] == 128).all(), "untouched outside"
    rim = picture[240, 225:245]  # the left edge lies at 60 * 4 = 240
    assert (rim.min(1) == 255).any() and (rim.max(1) < 70).any(), "a white and a dark rim"


def test_small_images_are_enlarged_and_large_ones_shrunk():
    one = PointPrompts.checked([[0, 0]], [1])
    assert draw(Panel(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), bool), one)).size == (480, 480)
    assert draw(Panel(np.zeros((1000, 2000, 3), np.uint8), None, one)).size == (1600, 800)
    assert draw(Panel(np.zeros((1, 3000, 3), np.uint8), None, one)).size == (1600, 1)


@pytest.mark.parametrize("columns", [1, 3])
def test_a_figure_holds_its_panels_captions_and_legend(columns):
    panel = Panel(GREY, None, PROMPTS, caption="Dice 0.90")
    titles = ["ideal", "attacked", "defended"][:columns]
    with_text = figure([[panel] * columns] * 2, titles, 200)
    assert with_text.width >= columns * 200 and with_text.height > 2 * 150
    bare = figure([[Panel(GREY, None, PROMPTS)] * columns] * 2, [""] * columns, 200)
    assert bare.size == with_text.size
    changed = (np.asarray(bare) != np.asarray(with_text)).any(2)
    assert changed[:20].any(), "titles"
    assert changed[180:].any(), "captions"
    legend = np.asarray(with_text)[-25:].reshape(-1, 3).astype(int)
    assert share(legend, 1) > 0 and share(legend, 0) > 0 and share(legend, 2) > 0


def test_rows_and_titles_must_agree():
    with pytest.raises(ValueError):
        figure([[Panel(GREY, None, PROMPTS)]], ["a", "b"])
