"""Two small photographs with masks drawn by us, and settings so small that a run of training takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

TINY = """\
name = "tiny"
rounds = 2
validation_games = 1
attack_games = 2
defence_games = 1
attack_rounds = 2
attack_updates = 3
defence_updates = 3
final_updates = 3
[game]
usual_points = 2
usual_share = 1.0
fewest_points = 2
most_points = 2
candidates = 4
attack_moves = 1
attack_branches = 2
defence_moves = 1
[game.corruptions]
flip = 0.5
attacked = 0.5
[network]
width = 8
heads = 1
layers = 1
[learning]
batch = 4
replay = 3
target_sync = 2
"""


def make_photographs(folder: Path) -> Path:
    """A data folder of a cup of coffee and a cat's face, 240 x 160 pixels each."""
    y, x = np.mgrid[:160, :240]
    masks = {
        "coffee": ((x - 118) / 75) ** 2 + ((y - 72) / 52) ** 2 < 1,
        "chelsea": ((x - 118) / 62) ** 2 + ((y - 70) / 60) ** 2 < 1,
    }
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for name, mask in masks.items():
        photo = Image.fromarray(getattr(skimage.data, name)()).resize((240, 160))
        photo.save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    return folder


def write_settings(path: Path) -> Path:
    """The tiny settings as a TOML file."""
    path.write_text(TINY)
    return path
