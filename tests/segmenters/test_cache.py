"""Embeddings kept in memory and on disk, around a real segmenter whose encoder counts its runs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conformance import point_sets
from tiny_models import save_tiny

from point_prompt_defender.segmenters.cache import DiskCache, MemoryCache, image_key
from point_prompt_defender.segmenters.mobile_sam import MobileSamSegmenter
from point_prompt_defender.segmenters.transformers_sam import TransformersSegmenter


class CountingSegmenter(MobileSamSegmenter):
    """The default segmenter; `embed` counts."""

    encoded = 0

    def embed(self, image):
        self.encoded += 1
        return super().embed(image)


class CountingTiny(TransformersSegmenter):
    """A tiny random model, for what does not depend on the model; `embed` counts."""

    encoded = 0

    def embed(self, image):
        self.encoded += 1
        return super().embed(image)


@pytest.fixture
def counting(segmenter):
    """Shares the session's weights: only the class differs."""
    twin = copy.copy(segmenter)
    twin.__class__ = CountingSegmenter
    return twin


@pytest.fixture(scope="module")
def small(photo):
    return np.ascontiguousarray(photo[:60, :80])


def test_one_pixel_changed_is_another_key(small):
    other = small.copy()
    other[30, 40, 2] ^= 1
    assert image_key(small) == image_key(small.copy())
    assert image_key(small) != image_key(other)


def test_the_same_bytes_in_another_shape_are_another_key(small):
    assert image_key(small) != image_key(small.reshape(80, 60, 3))


def test_a_view_has_the_key_of_its_copy(photo):
    view = photo[::2, ::-1]
    assert image_key(view) == image_key(view.copy())


def test_memory_keeps_the_last_used(small, tmp_path):
    counting = CountingTiny(save_tiny("sam", tmp_path))
    cache = MemoryCache(counting, size=2)
    images = [small, np.ascontiguousarray(small[::-1]), np.ascontiguousarray(small[:, ::-1])]
    first = cache.embed(images[0])
    assert cache.embed(images[0].copy()) is first
    cache.embed(images[1])
    assert cache.embed(images[0]) is first  # used again, so images[1] is now the oldest
    cache.embed(images[2])
    assert counting.encoded == 3
    assert cache.embed(images[0]) is first
    assert counting.encoded == 3
    cache.embed(images[1])
    assert counting.encoded == 4


def test_disk_encodes_once_even_across_processes(counting, embedding, photo, tmp_path):
    first = DiskCache(counting, tmp_path).embed(photo)
    again = DiskCache(counting, tmp_path).embed(photo)  # a new object, as a new run has
    assert counting.encoded == 1
    assert torch.equal(first.features, again.features)
    assert first.frame == again.frame == embedding.frame
    assert np.array_equal(again.image, photo)
    # float16 has 11 bits
    torch.testing.assert_close(again.features, embedding.features, rtol=2**-10, atol=1e-6)


def test_masks_from_the_disk_cache_are_nearly_the_exact_ones(counting, embedding, photo, tmp_path):
    cached = DiskCache(counting, tmp_path).embed(photo)
    sets = point_sets(photo, 4, 8)
    exact, close = counting.predict(embedding, *sets), counting.predict(cached, *sets)
    assert (exact.masks == close.masks).mean() > 0.999
    torch.testing.assert_close(exact.predicted_iou, close.predicted_iou, rtol=0, atol=5e-3)


def test_another_pixel_or_other_weights_are_encoded_anew(counting, small, tmp_path):
    DiskCache(counting, tmp_path).embed(small)
    changed = small.copy()
    changed[0, 0, 0] ^= 1
    DiskCache(counting, tmp_path).embed(changed)
    assert counting.encoded == 2
    counting.fingerprint = "other weights"
    DiskCache(counting, tmp_path).embed(small)
    assert counting.encoded == 3


@pytest.mark.parametrize("stage", ["save", "replace"])
def test_a_write_that_fails_leaves_no_file_and_the_next_one_works(counting, small, tmp_path, monkeypatch, stage):
    cache = DiskCache(counting, tmp_path)
    with monkeypatch.context() as broken:
        if stage == "save":

            def half(file, array):
                file.write(b"\x93NUMPY half a file")
                raise OSError("disk full")

            broken.setattr(np, "save", half)
        else:

            def interrupted(source, target):
                raise KeyboardInterrupt

            broken.setattr("os.replace", interrupted)
        with pytest.raises((OSError, KeyboardInterrupt)):
            cache.embed(small)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert cache.embed(small).features.shape == (256, 64, 64)
    assert len(list(tmp_path.rglob("*.npy"))) == 1
