# python benchmarks/decoding.py
"""Decoding 16 points: our decoder against the ONNX decoder it takes its weights from, in one run, medians.

Threads are pinned to one each; ratios carry over to other machines, milliseconds do not. The photograph is one that
scikit-image ships. Writes benchmarks/results/decoding.json.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import skimage.data
import torch

from point_prompt_defender.evaluation.metrics import dice
from point_prompt_defender.runtime import keep_pages
from point_prompt_defender.segmenters import load_segmenter
from point_prompt_defender.weights import resolve

POINTS, BATCH, REPEATS = 16, 16, 7


def onnx_decoder(features: np.ndarray, size: tuple[int, int]) -> Callable[[np.ndarray, np.ndarray], list[Any]]:
    """The exported decoder as its makers run it: one point set a call, SAM's own padding point added."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(resolve("mobile-sam")["decoder"]), options)
    fixed = {
        "image_embeddings": features[None],
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(size, np.float32),
    }

    def decode(coords: np.ndarray, labels: np.ndarray) -> list[Any]:
        points = np.concatenate([coords, [[0, 0]]])[None].astype(np.float32)
        marks = np.append(labels, -1)[None].astype(np.float32)
        return session.run(None, {**fixed, "point_coords": points, "point_labels": marks})

    return decode


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    keep_pages()
    image = skimage.data.chelsea()
    exact = load_segmenter(threads=1)
    half = load_segmenter(dtype="bfloat16", threads=1)
    embedding = exact.embed(image)
    prepared = half.attach(embedding)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1, (BATCH, POINTS, 2)) * (np.array(image.shape[1::-1]) - 1)
    labels = np.tile([1, 0], (BATCH, POINTS // 2))
    decode = onnx_decoder(embedding.features.numpy(), image.shape[:2])
    inputs = embedding.frame.to_input(coords)
    singles = [(c[None], m[None]) for c, m in zip(coords, labels, strict=True)]
    ways: dict[str, Callable[[], Any]] = {
        "onnx, one by one": lambda: [decode(c, m) for c, m in zip(inputs, labels, strict=True)],
        "ours, one by one": lambda: [exact.predict(embedding, *one) for one in singles],
        "ours, one batch": lambda: exact.predict(embedding, coords, labels),
        "ours, one batch, bfloat16": lambda: half.predict(prepared, coords, labels),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        ways[name]()  # warm up
    for _ in range(REPEATS):  # in turn, so that a drift of the machine's speed meets all of them
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - started) / BATCH)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    reference = exact.predict(embedding, coords, labels)
    low = np.concatenate([out[2][:, 0] for out in ways["onnx, one by one"]()])
    halved = half.predict(prepared, coords, labels)
    result = {
        "threads": 1,
        "milliseconds a decode": {name: round(1000 * value, 1) for name, value in median.items()},
        "times faster than onnx": {name: round(median["onnx, one by one"] / v, 2) for name, v in median.items()},
        "largest logit difference to onnx": float(np.abs(reference.low_res_logits.numpy() - low).max()),
        "bfloat16, mean Dice to float32": float(
            np.mean([dice(a, b) for a, b in zip(halved.masks, reference.masks, strict=True)])
        ),
    }
    text = json.dumps(result, indent=1)
    out = Path(__file__).parent / "results"
    out.mkdir(exist_ok=True)
    (out / "decoding.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
