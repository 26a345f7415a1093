"""What is to be known of trained agents: a card in each file's header, and the same in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import __version__
from .config import TrainingConfig
from .settings import command_line

_LIMITS = """\
- The defender only takes points away. It adds, moves and relabels none, and keeps at least one positive point.
- It was trained with the segmenter named above. Others can be used, since it sees distances, labels and the
  segmenter's answers rather than features, but how well it does with them has to be measured.
- The figures above are of held-out images of the data it was trained on, with as many points as training used. Other
  domains, and other numbers or kinds of wrong points, can go better or worse: `ppd evaluate` measures it on your data.
- On a clean point set it may still drop points, and a mask can get worse.
- The attacker is there to train and to test defenders. It is trained against one segmenter's mistakes."""


def make_card(
    config: TrainingConfig,
    role: str,
    datasets: Sequence[str],
    run: str,
    log: Sequence[dict[str, Any]],
    earlier: str | None = None,
) -> dict[str, Any]:
    """The card of one agent, as it goes into the file's header.

    Args:
        config: the run's settings.
        role: "attacker" or "defender".
        datasets: names of the data folders, without their paths.
        run: name of the run's folder, without its path.
        log: the run's entries, one a round.
        earlier: name of the run that this one started from, if any; its rounds, decodes and hours are not counted.
    """
    last = log[-1]
    return {
        "name": config.name,
        "role": role,
        "paper": config.game.paper,
        "segmenter": config.segmenter,
        "data": list(datasets),
        "run": run,
        "command": command_line(config, datasets, run, earlier),
        "started_from": earlier,
        "seed": config.seed,
        "rounds": len(log),
        "decodes": last["total_decodes"],
        "hours": round(last["total_seconds"] / 3600, 3),
        "validation": {key.removeprefix("val_"): value for key, value in last.items() if key.startswith("val_")},
        "version": __version__,
    }


def card_text(card: dict[str, Any]) -> str:
    """A run's model card (Markdown), from the card of either of its agents."""
    return f"""\
# Point Prompt Defender: agents "{card["name"]}"

Two Deep Q-Networks that play on the points given to a promptable segmenter. `defender.safetensors` takes bad points
out; `attacker.safetensors` is the opponent it was trained against, which adds points that ruin the mask.

```python
import point_prompt_defender as ppd

defender = ppd.PointPromptDefender.from_pretrained("{card["run"]}")
result = defender.refine(image, coords, labels)
```

## Training

| | |
|---|---|
| data | {", ".join(card["data"])} |
| segmenter | {card["segmenter"]} |
| graph | {"raw Euclidean distances, as in the paper" if card["paper"] else "relative distances and diffusion"} |
| rounds | {card["rounds"]} |
| point sets decoded | {card["decodes"]:,} |
| time | {card["hours"]:.2f} hours |
| seed | {card["seed"]} |
| started from | {card["started_from"] or "nothing"} |
| package version | {card["version"]} |

The command, with the names of the data folders only:

```
{card["command"]}
```

## Validation

Mean Dice on images that were not trained on, after the last round:

| points | before | defended |
|---|---|---|
{_rows(card["validation"])}

## Limits

{_LIMITS}
"""


def _rows(figures: dict[str, float]) -> str:
    kinds = {
        "ideal": "ideal",
        "flipped": "4 labels flipped",
        "attacked": "attacked",
        "random_attacked": "as many random activations",
    }
    rows = []
    for key, label in kinds.items():
        after = f"{figures[f'{key}_defended']:.3f}" if f"{key}_defended" in figures else ""
        rows.append(f"| {label} | {figures[key]:.3f} | {after} |")
    return "\n".join(rows)
