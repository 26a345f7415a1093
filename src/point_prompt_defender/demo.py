"""The demonstration: a real segmenter on real photographs, ruined by the attacker and rescued by the defender.

The photographs are those that scikit-image ships; the outlines of the objects in them were drawn for this project
(assets/demo/scenes.json).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .drawing import Panel, figure
from .errors import ConfigError
from .game.rewards import dice
from .prompts import PointPrompts, RefineResult
from .proposers.ideal import ideal_prompts

if TYPE_CHECKING:
    import os

    from PIL import Image

    from .defender import PointPromptDefender
    from .segmenters.base import Embedding, Segmenter

SCENES = Path(__file__).parent / "assets" / "demo" / "scenes.json"
POSITIVES, NEGATIVES, CANDIDATES, MOVES = 8, 8, 32, 4

# What an attack is: the image, its object's mask (H, W) bool, ideal prompts and chance -> attacked prompts.
Attack = Callable[["Embedding", NDArray[np.bool_], PointPrompts, np.random.Generator], PointPrompts]


@dataclass(frozen=True, eq=False)
class DemoScene:
    """One object of one photograph.

    Attributes:
        name: what the object is.
        photo: name of the photograph in `skimage.data`.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, the object as it was drawn.
    """

    name: str
    photo: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DemoCase:
    """What became of one scene.

    Attributes:
        scene: the object.
        ideal, attacked: the prompts before and after the attack.
        mask_ideal: (H, W) bool, the segmenter's mask from the ideal prompts.
        result: what the defender made of the attacked prompts.
        dice_ideal, dice_attacked, dice_defended: Dice of the three masks against the drawn one, 0 to 1.
    """

    scene: DemoScene
    ideal: PointPrompts
    attacked: PointPrompts
    mask_ideal: NDArray[np.bool_]
    result: RefineResult
    dice_ideal: float
    dice_attacked: float
    dice_defended: float


def load_scenes(path: Path = SCENES) -> list[DemoScene]:
    """The shipped scenes.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError:
        raise ConfigError(
            "The demo's photographs come with scikit-image; install it with pip install 'point-prompt-defender[demo]'."
        ) from None
    scenes = []
    for entry in json.loads(path.read_text(encoding="utf-8"))["scenes"]:
        image = np.asarray(getattr(skimage.data, entry["image"])())
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, 2)
        scenes.append(DemoScene(entry["name"], entry["image"], image, fill(entry["polygons"], image.shape[:2])))
    return scenes


def fill(polygons: Iterable[list[list[float]]], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside an odd number of polygons, so that a polygon within another is a hole.

    Args:
        polygons: lists of (x, y) pixels.
        image_size: (height, width).
    """
    from skimage.draw import polygon2mask

    mask = np.zeros(image_size, bool)
    for corners in polygons:
        mask ^= polygon2mask(image_size, np.array(corners)[:, ::-1])
    return mask


def play(
    scenes: Iterable[DemoScene], defender: PointPromptDefender, attack: Attack, seed: int = 0
) -> Iterator[DemoCase]:
    """Ideal prompts, then the attack, then the defence, one scene after another; each photograph is encoded once.

    Args:
        scenes: the objects.
        defender: brings the segmenter along.
        attack: adds bad points.
        seed: of the sampling of points; equal seeds give equal cases.
    """
    embeddings: dict[str, Embedding] = {}
    for number, scene in enumerate(scenes):
        if scene.photo not in embeddings:
            embeddings = {scene.photo: defender.segmenter.embed(scene.image)}
        embedding, rng = embeddings[scene.photo], np.random.default_rng([seed, number])
        ideal = ideal_prompts(scene.mask, POSITIVES, NEGATIVES, rng)
        attacked = attack(embedding, scene.mask, ideal, rng)
        mask_ideal = defender.segmenter.predict(embedding, ideal.coords[None], ideal.labels[None]).masks[0]
        result = defender.refine(embedding, attacked.coords, attacked.labels)
        scores = dice(np.stack([mask_ideal, result.mask_before, result.mask]), scene.mask).tolist()
        yield DemoCase(scene, ideal, attacked, mask_ideal, result, *scores)


def trained_attack(segmenter: Segmenter, agent: str | os.PathLike[str] = "default", moves: int = MOVES) -> Attack:
    """The attack of a trained attacker: it activates `moves` of the inactive candidates.

    Raises:
        ConfigError: no such agent.
    """
    from .agents.files import find_agent, load_network
    from .game.corruptions import candidate_pool
    from .game.rules import Role
    from .scene import Scene
    from .scene import attack as let_attack

    network, card = load_network(find_agent(agent, Role.ATTACKER))

    def attack(
        embedding: Embedding, mask: NDArray[np.bool_], ideal: PointPrompts, rng: np.random.Generator
    ) -> PointPrompts:
        scene = Scene.of(segmenter, embedding, mask, paper=bool(card.get("paper", False)))
        return let_attack(scene, ideal, candidate_pool(mask, CANDIDATES, rng), network, moves)[0]

    return attack


def as_dict(cases: list[DemoCase], seconds: float) -> dict[str, Any]:
    """The figures of a demo for JSON: the cases, the means, the share won back, and the seconds it took."""
    rows = [
        {
            "image": case.scene.photo,
            "object": case.scene.name,
            "dice_ideal": case.dice_ideal,
            "dice_attacked": case.dice_attacked,
            "dice_defended": case.dice_defended,
            "points": [
                {"x": x, "y": y, "label": label, "kept": kept}
                for (x, y), label, kept in zip(
                    case.attacked.coords.tolist(),
                    case.attacked.labels.tolist(),
                    case.result.keep.tolist(),
                    strict=True,
                )
            ],
            "removed": [int(i) for i in case.result.removal_order],
        }
        for case in cases
    ]
    means = {
        key: float(np.mean([row[key] for row in rows])) for key in ("dice_ideal", "dice_attacked", "dice_defended")
    }
    taken = means["dice_ideal"] - means["dice_attacked"]
    back = means["dice_defended"] - means["dice_attacked"]
    return {"cases": rows, "means": means, "won_back": back / taken if taken > 0 else None, "seconds": seconds}


def picture(cases: list[DemoCase]) -> Image.Image:
    """The figure: a row a case; ideal, attacked and defended side by side; Dice under each."""
    rows = []
    for case in cases:
        image, attacked, result = case.scene.image, case.attacked, case.result
        dropped = len(result.removal_order)
        points = f"{dropped} point{'' if dropped == 1 else 's'} dropped"
        rows.append(
            [
                Panel(image, case.mask_ideal, case.ideal, caption=f"{case.scene.name}: Dice {case.dice_ideal:.2f}"),
                Panel(image, result.mask_before, attacked, caption=f"Dice {case.dice_attacked:.2f}"),
                Panel(image, result.mask, attacked, result.keep, f"Dice {case.dice_defended:.2f}, {points}"),
            ]
        )
    return figure(rows, ["ideal", "attacked", "defended"])
