"""Fixtures that several test files share: the real default segmenter, and real photographs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pytest
import skimage.data

import point_prompt_defender as ppd


@pytest.fixture(scope="session")
def segmenter():
    """The real default segmenter; its weights are fetched once (npm or cache) and verified."""
    return ppd.load_segmenter("mobile-sam")


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, (300, 451, 3) uint8."""
    return skimage.data.chelsea()


@pytest.fixture(scope="session")
def embedding(segmenter, photo):
    """The photograph's embedding, computed once for all tests."""
    return segmenter.embed(photo)
