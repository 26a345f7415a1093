"""Turn measured cases into tables: means, recovery, harm and their intervals, paired against the best control."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..controls import CONTROLS
from .metrics import bootstrap, recovery


def summarise(rows: list[dict[str, Any]], draws: int = 2000) -> list[dict[str, Any]]:
    """One row a data set, noise and method, in the order of first appearance; data set "all" pools the sets.

    Recovery needs the method "oracle" among the rows, the interval against controls at least one control.
    """
    out = []
    datasets = list(dict.fromkeys(r["dataset"] for r in rows))
    for dataset in [*datasets, *(["all"] if len(datasets) > 1 else [])]:
        for noise in dict.fromkeys(r["noise"] for r in rows):
            here = [r for r in rows if r["noise"] == noise and dataset in (r["dataset"], "all")]
            if here:
                out += _group(here, dataset, noise, draws)
    return out


def _group(rows: list[dict[str, Any]], dataset: str, noise: str, draws: int) -> list[dict[str, Any]]:
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], {})[row["trial"]] = row
    keys = list(next(iter(by_method.values())))

    def column(method: str, name: str) -> np.ndarray:
        return np.array([by_method[method][key][name] for key in keys], float)

    first = next(iter(by_method))
    groups = np.array([f"{by_method[first][k]['dataset']}/{by_method[first][k]['image']}" for k in keys])
    before = column(first, "dice_before")
    best = column("oracle", "dice_after") if "oracle" in by_method else None
    controls = [m for m in by_method if m in CONTROLS]
    strongest = max(controls, key=lambda m: column(m, "dice_after").mean()) if controls else None
    out = []
    for method in by_method:
        after = column(method, "dice_after")
        removed, wrong, hits = (column(method, name).sum() for name in ("removed", "wrong", "hits"))
        entry: dict[str, Any] = {
            "dataset": dataset, "noise": noise, "method": method, "n": len(keys),
            "dice_before": float(before.mean()), "dice_after": float(after.mean()),
            "dice_after_ci95": bootstrap(lambda x: float(x.mean()), [after], groups, draws),
            "iou_after": float(column(method, "iou_after").mean()), "hd95": float(column(method, "hd95").mean()),
            "boundary_f": float(column(method, "boundary_f").mean()),
            "harm": float((before - after).mean()) if noise == "clean" else None,
            "worse": float((after < before - 0.01).mean()),
            "removed": float(column(method, "removed").mean()),
            "precision": float(hits / removed) if removed else None, "recall": float(hits / wrong) if wrong else None,
            "decodes": float(column(method, "decodes").mean()), "seconds": float(np.median(column(method, "seconds"))),
        }  # fmt: skip
        if best is not None and noise != "clean":
            entry["recovery"] = recovery(before, after, best)
            entry["recovery_ci95"] = bootstrap(recovery, [before, after, best], groups, draws)
        if strongest is not None:
            gain = after - column(strongest, "dice_after")
            entry["over_best_control"] = float(gain.mean())
            entry["over_best_control_ci95"] = bootstrap(lambda x: float(x.mean()), [gain], groups, draws)
            entry["best_control"] = strongest
        out.append(entry)
    return out


_COLUMNS = (
    "method", "Dice before", "Dice after", "recovery [95 %]", "over the best control [95 %]", "worse by > 0.01",
    "removed", "decodes",
)  # fmt: skip


def markdown(summary: list[dict[str, Any]]) -> str:
    """The summary as Markdown tables, one a data set and noise."""
    lines: list[str] = []
    for dataset, noise in dict.fromkeys((r["dataset"], r["noise"]) for r in summary):
        here = [r for r in summary if (r["dataset"], r["noise"]) == (dataset, noise)]
        lines += [
            f"### {dataset}, {noise} (n = {here[0]['n']})", "",
            f"| {' | '.join(_COLUMNS)} |",
            f"|{' --- |' * len(_COLUMNS)}",
        ]  # fmt: skip
        for r in here:
            lines.append(
                f"| {r['method']} | {r['dice_before']:.3f} | {r['dice_after']:.3f} | {_with_ci(r, 'recovery', 2)} | "
                f"{_with_ci(r, 'over_best_control', 3)} | {r['worse']:.0%} | {r['removed']:.1f} | {r['decodes']:.1f} |"
            )
        lines.append("")
    return "\n".join(lines)


def _with_ci(row: dict[str, Any], name: str, digits: int) -> str:
    if row.get(name) is None:
        return "–"
    low, high = row[f"{name}_ci95"]
    return f"{row[name]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
