"""The dual-space graph against direct computations, and the properties that every graph must have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from point_prompt_defender.features.base import PatchFeatures
from point_prompt_defender.graph import PatchGraph, PromptGraph, build_graph, mean_distance
from point_prompt_defender.prompts import PointPrompts

HEIGHT, WIDTH, PATCH = 60, 80, 10  # pixels; 6 x 8 patches


def random_features(seed: int, rows: int = 6, columns: int = 8, channels: int = 5) -> PatchFeatures:
    grid = np.random.default_rng(seed).normal(0.3, 1, (rows, columns, channels))
    size = rows * PATCH, columns * PATCH
    return PatchFeatures(torch.tensor(grid, dtype=torch.float32), size, (1 / PATCH, 1 / PATCH))


def random_points(seed: int, count: int) -> PointPrompts:
    rng = np.random.default_rng(seed)
    return PointPrompts(rng.uniform(0, [WIDTH - 1, HEIGHT - 1], (count, 2)), rng.integers(0, 2, count))


def channels(graph: PromptGraph) -> dict[str, np.ndarray]:
    return {name: getattr(graph, name) for name in ("semantic", "physical", "diffusion")}


def dense_kernel(unit: np.ndarray, reach: int, sharpness: float, alpha: float) -> np.ndarray:
    """Label spreading's kernel, straight from its definition: loops over all pairs of patches, a plain inverse."""
    height, width, _ = unit.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    weights = np.zeros((len(places), len(places)))
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            if i != j and max(abs(y - v), abs(x - u)) <= reach:
                weights[i, j] = np.exp(sharpness * (unit[y, x] @ unit[v, u] - 1))
    root = np.diag(1 / np.sqrt(np.maximum(weights.sum(1), 1e-12)))
    kernel = np.linalg.inv(np.eye(len(places)) - alpha * root @ weights @ root)
    return kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))


@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans())
@settings(max_examples=40, deadline=None)
def test_edges_are_symmetric_not_negative_and_zero_to_oneself(seed, count, paper):
    graph = build_graph(random_features(seed), random_points(seed, count), paper=paper)
    for name, matrix in channels(graph).items():
        assert matrix.shape == (count, count) and matrix.dtype == np.float32, name
        assert (matrix >= 0).all(), name
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-6, err_msg=name)
    assert not np.diag(graph.semantic).any() and not np.diag(graph.physical).any()
    np.testing.assert_allclose(np.diag(graph.diffusion), 1, atol=1e-5)
    assert graph.diffusion.max() <= 1 + 1e-6


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=20, deadline=None)
def test_permuting_the_points_permutes_the_graph(seed, paper):
    features, points = random_features(seed), random_points(seed, 9)
    order = np.random.default_rng(seed).permutation(9)
    shuffled = PointPrompts(points.coords[order], points.labels[order])
    before, after = (channels(build_graph(features, p, paper=paper)) for p in (points, shuffled))
    for name in before:
        np.testing.assert_allclose(after[name], before[name][np.ix_(order, order)], atol=1e-6, err_msg=name)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_paper_distances_are_euclidean(seed):
    features, points = random_features(seed), random_points(seed, 7)
    graph = build_graph(features, points, paper=True)
    columns, rows = (points.coords + 0.5).astype(int).T // PATCH
    raw = features.grid.numpy()[rows, columns]
    np.testing.assert_allclose(graph.semantic, cdist(raw, raw), atol=1e-5)
    np.testing.assert_allclose(graph.physical, cdist(points.coords, points.coords) / 100, atol=1e-6)  # 60, 80 -> 100
    np.testing.assert_array_equal(graph.diffusion, np.eye(7))


def test_paper_distances_of_a_graph_worked_out_by_hand():
    grid = torch.zeros(1, 2, 2)
    grid[0, 1] = torch.tensor([3.0, 4.0])
    features = PatchFeatures(grid, (30, 40), (1 / 20, 1 / 30))
    graph = build_graph(features, PointPrompts(np.array([[2.0, 10.0], [32.0, 10.0]]), np.array([1, 0])), paper=True)
    np.testing.assert_allclose(graph.semantic, [[0, 5], [5, 0]])
    np.testing.assert_allclose(graph.physical, [[0, 0.6], [0.6, 0]], rtol=1e-6)  # 30 pixels of a diagonal of 50
    np.testing.assert_array_equal(graph.signs, [1, -1])


@given(st.integers(0, 2**31), st.floats(0.01, 1000))
@settings(max_examples=20, deadline=None)
def test_default_distances_do_not_depend_on_the_scale_of_features(seed, scale):
    features, points = random_features(seed), random_points(seed, 8)
    scaled = PatchFeatures(features.grid * scale, features.image_size, features.cells_per_pixel)
    before, after = channels(build_graph(features, points)), channels(build_graph(scaled, points))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-4, err_msg=name)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_semantic_distance_is_the_angle_in_units_of_the_image_s_own(seed):
    features, points = random_features(seed), random_points(seed, 6)
    vectors = features.at(points.coords, radius=1).numpy().astype(float)
    chord = cdist(vectors, vectors) ** 2 / 2  # of unit vectors: 1 - cosine
    expected = np.sqrt(chord / mean_distance(features))
    np.testing.assert_allclose(build_graph(features, points).semantic, expected, atol=2e-3)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_mean_distance_is_the_mean_over_all_pairs(seed):
    features = random_features(seed, 3, 4)
    unit = features.grid.flatten(0, 1).double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    assert mean_distance(features) == pytest.approx(np.mean([1 - a @ b for a in unit for b in unit]), abs=1e-5)


def test_mean_distance_of_a_flat_image_is_no_zero():
    flat = PatchFeatures(torch.ones(3, 3, 4), (30, 30), (0.1, 0.1))
    assert 0 < mean_distance(flat) <= 1e-5
    graph = build_graph(flat, PointPrompts(np.array([[1.0, 1.0], [25.0, 25.0]]), np.array([1, 0])))
    assert np.isfinite(graph.semantic).all()


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (7, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_patch_graph_is_label_spreading(shape, reach):
    features = random_features(0, *shape)
    patches = PatchGraph(features, reach=reach, sharpness=3.0, alpha=0.9)
    expected = dense_kernel(features.unit.double().numpy(), reach, 3.0, 0.9)
    np.testing.assert_allclose(patches.spread, expected, atol=1e-5)


def test_patch_graph_solves_the_spreading_of_labels():
    """The fixed point of F <- alpha S F + (1 - alpha) Y, found by going on until nothing changes."""
    features = random_features(3, 4, 4)
    patches = PatchGraph(features, alpha=0.8, sharpness=2.0)
    weights = np.zeros((16, 16))
    weights[patches.rows, patches.columns] = patches.weights
    root = 1 / np.sqrt(weights.sum(1))
    spread = weights * root[:, None] * root[None]
    start = np.zeros(16)
    start[5] = 1.0
    label = start.copy()
    for _ in range(400):
        label = 0.8 * spread @ label + 0.2 * start
    kernel = np.linalg.inv(np.eye(16) - 0.8 * spread)
    diagonal = np.sqrt(np.diag(kernel))
    np.testing.assert_allclose(patches.spread[:, 5], label / 0.2 / diagonal / diagonal[5], atol=1e-5)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_affinity_is_read_at_the_points_patches(seed):
    features, points = random_features(seed), random_points(seed, 6)
    patches = PatchGraph(features)
    nodes = [int((y + 0.5) // PATCH) * 8 + int((x + 0.5) // PATCH) for x, y in points.coords]
    np.testing.assert_array_equal(patches.node_of(points.coords), nodes)
    affinity = patches.affinity(points.coords)
    np.testing.assert_allclose(affinity, patches.spread[nodes][:, nodes], atol=1e-6)
    assert affinity.min() >= 0 and affinity.max() <= 1


def test_labels_spread_within_a_region_and_not_across_its_border():
    grid = torch.zeros(6, 8, 2)
    grid[:, :4, 0] = 1  # two regions, left and right, whose features are orthogonal
    grid[:, 4:, 1] = 1
    features = PatchFeatures(grid, (HEIGHT, WIDTH), (1 / PATCH, 1 / PATCH))
    far_same, near_other = PatchGraph(features).affinity(np.array([[35.0, 30.0], [5.0, 5.0], [45.0, 30.0]]))[0, 1:]
    assert far_same > 100 * near_other


def test_many_patches_are_averaged_in_blocks():
    features = random_features(0, 6, 8)
    patches = PatchGraph(features, nodes=12)
    assert patches.block == 2 and patches.shape == (3, 4)
    pooled = features.unit.numpy().reshape(3, 2, 4, 2, -1).mean((1, 3))
    pooled /= np.linalg.norm(pooled, axis=-1, keepdims=True)
    np.testing.assert_allclose(patches.spread, dense_kernel(pooled, 2, 16.0, 0.99), atol=1e-3)
    np.testing.assert_array_equal(patches.node_of(np.array([[0.0, 0.0], [79.0, 59.0], [25.0, 15.0]])), [0, 11, 1])


def test_a_graph_at_hand_is_used():
    features, points = random_features(1), random_points(1, 5)
    own = PatchGraph(features, alpha=0.5)
    np.testing.assert_array_equal(build_graph(features, points, patches=own).diffusion, own.affinity(points.coords))
    assert (build_graph(features, points).diffusion != own.affinity(points.coords)).any()
