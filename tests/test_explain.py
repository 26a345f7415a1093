"""Every fact in a reason is true: each is worked out again here, from the graph and the segmenter's answers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from point_prompt_defender.agents.policy import Move, position_of
from point_prompt_defender.explain import explain
from point_prompt_defender.feedback import Feedback
from point_prompt_defender.graph import PromptGraph
from point_prompt_defender.prompts import PointPrompts

COUNT = 7
NUMBER = {"none": 0, "one": 1, "two": 2, "three": 3, "four": 4}


def random_graph(seed: int, count: int = COUNT) -> PromptGraph:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    semantic = np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32)
    labels = rng.integers(0, 2, count)
    return PromptGraph(PointPrompts(rng.uniform(0, 50, (count, 2)), labels), semantic, semantic, semantic)


def move(graph: PromptGraph, node: int | None) -> Move:
    position = position_of(graph, np.ones(len(graph), bool), 1)
    return Move(node, np.zeros(len(graph), np.float32), position)


def answers(sets: np.ndarray) -> Feedback:
    """Any answer will do, as long as the same set always gets the same one."""
    logits, estimates = [], []
    for active in sets:
        rng = np.random.default_rng(int(np.packbits(active)[0]))
        logits.append(rng.normal(0, 3, len(active)))
        estimates.append([rng.random(), 0, rng.random(), 0])
    low = np.zeros((len(sets), 2, 2), np.float32)
    return Feedback(np.array(logits), np.array(logits), np.array(estimates), low)


def size_change(old: float, new: float) -> str:
    was, now = (f"{share:.1%}".replace("%", " %") for share in (old, new))
    if was == now:
        return f"keeps its size, {now} of the image"
    return f"{'shrinks' if new < old else 'grows'} from {was} to {now} of the image"


def label_name(label: int) -> str:
    return "positive" if label else "negative"


def check_neighbours(sentence: str, graph: PromptGraph, active: np.ndarray, node: int) -> None:
    labels = graph.prompts.labels
    others = [i for i in range(len(graph)) if active[i] and i != node]
    nearest = sorted(others, key=lambda i: graph.semantic[node, i])[:4]
    own, against = labels[node], sum(labels[i] != labels[node] for i in nearest)
    assert sentence.startswith(f"labelled {label_name(own)}, ")
    if len(nearest) == 1:
        assert sentence.endswith(f"its only neighbour in feature space is {label_name(labels[nearest[0]])}")
        return
    assert sentence.endswith(f" {label_name(1 - own)}")
    part = re.search(r"(?:(\w+) of )?its (\w+) nearest patches in feature space (is|are)", sentence)
    assert part, sentence
    assert NUMBER[part[2]] == len(nearest)
    assert (NUMBER[part[1]] if part[1] else len(nearest)) == against


@given(st.integers(0, 2**31), st.integers(2, COUNT))
@settings(max_examples=60, deadline=None)
def test_every_fact_is_true(seed, count):
    graph = random_graph(seed, count)
    order = np.random.default_rng(seed).permutation(count)[: count - 1]
    reasons = explain(graph, [*(move(graph, int(n)) for n in order), move(graph, None)], answers)
    assert len(reasons) == count
    active = np.ones(count, bool)
    for node in order:
        neighbours, inside, estimate, area = reasons[node].split("; ")
        check_neighbours(neighbours, graph, active, node)

        before = answers(active[None])
        within = before.logits[0, node] > 0
        whose = "all points together" if active.all() else f"the {active.sum()} points left by then"
        assert f"{'inside' if within else 'outside'} the mask that {whose} gave" in inside
        assert ("against its label" in inside) == (within != (graph.prompts.labels[node] == 1))

        active[node] = False
        after = answers(active[None])
        assert area == f"the mask {size_change(*(float(a.scalars[0, 2]) for a in (before, after)))}"
        old, new = (round(float(a.scalars[0, 0]), 2) for a in (before, after))
        if old == new:
            assert estimate.endswith(f"stays at {new:.2f}")
        else:
            assert estimate.endswith(f"{'rises' if new > old else 'falls'} {old:.2f} -> {new:.2f}")
    assert [bool(r) for r in reasons] == [i in order for i in range(count)]


def test_without_feedback_only_the_graph_speaks():
    graph = random_graph(0)
    reasons = explain(graph, [move(graph, 2), move(graph, None)], None)
    assert reasons[2] and ";" not in reasons[2] and "mask" not in reasons[2] and "IoU" not in reasons[2]


def test_the_sentence_of_the_contract():
    labels = np.array([1, 0, 0, 0, 0, 1])
    semantic = np.ones((6, 6), np.float32)
    semantic[0] = [0, 0.1, 0.2, 0.3, 0.4, 0.9]
    graph = PromptGraph(PointPrompts(np.zeros((6, 2)), labels), semantic, semantic, semantic)
    reason = explain(graph, [move(graph, 0)], None)[0]
    assert reason == "labelled positive, but its four nearest patches in feature space are negative"


@pytest.mark.parametrize(
    ("neighbours", "sentence"),
    [
        ([0, 1, 1, 1], "labelled positive, and only one of its four nearest patches in feature space is negative"),
        ([0, 0, 1, 1], "labelled positive, but two of its four nearest patches in feature space are negative"),
        ([1, 1, 1, 1], "labelled positive, and none of its four nearest patches in feature space are negative"),
        ([0, 0], "labelled positive, but its two nearest patches in feature space are negative"),
        ([0], "labelled positive, but its only neighbour in feature space is negative"),
        ([1], "labelled positive, and its only neighbour in feature space is positive"),
    ],
)
def test_sentences_read_well(neighbours, sentence):
    count = len(neighbours) + 1
    semantic = np.ones((count, count), np.float32)
    graph = PromptGraph(PointPrompts(np.zeros((count, 2)), np.array([1, *neighbours])), semantic, semantic, semantic)
    assert explain(graph, [move(graph, 0)], None)[0] == sentence


def test_nothing_dropped_nothing_said():
    graph = random_graph(1)
    assert explain(graph, [move(graph, None)], answers) == [""] * COUNT
