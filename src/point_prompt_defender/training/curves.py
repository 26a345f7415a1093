"""Training curves: how a run goes, as a picture and for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..io.files import replace_atomically

Log = Sequence[dict[str, Any]]

PANELS: dict[str, dict[str, str]] = {
    "Dice on validation images": {
        "val_ideal": "ideal",
        "val_random_attacked": "random activations",
        "val_attacked": "attacked",
        "val_attacked_defended": "attacked, defended",
        "val_flipped": "labels flipped",
        "val_flipped_defended": "labels flipped, defended",
    },
    "Loss of the Q-values": {"attacker_loss_q": "attacker", "defender_loss_q": "defender"},
    "Exploration (epsilon)": {"epsilon": "epsilon"},
    "Decodes per second": {"decodes_per_second": "decodes per second"},
}


def draw_curves(log: Log, path: Path) -> None:
    """Draw a run's log as a PNG of four panels, whole or not at all.

    Args:
        log: the entries of `SelfPlay.rounds` in order; a round in which something did not happen lacks its entry.
        path: the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for key, label in curves.items():
            points = [(entry["round"], entry[key]) for entry in log if key in entry]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set_title(title)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if len(curves) > 1 and axes.lines:
            axes.legend(fontsize="small")
    with replace_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


class TensorBoardLog:
    """Every number of a run's log, for TensorBoard; written anew each time a run is started or resumed.

    A run that was killed has logged rounds that it plays again. So nothing is appended to what an earlier process
    wrote: `add` gets the whole log each time and writes what this process has not written yet.

    Args:
        folder: for the event files; what is in it goes.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        self._written = 0

    def add(self, log: Log) -> None:
        """Write the entries of the log (see `draw_curves`) that are new."""
        for entry in log[self._written :]:
            for key, value in entry.items():
                if key != "round":
                    group = key.split("_")[0] if key.startswith(("val_", "attacker_", "defender_")) else "run"
                    self._writer.add_scalar(f"{group}/{key.removeprefix(f'{group}_')}", value, entry["round"])
        self._written = len(log)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
