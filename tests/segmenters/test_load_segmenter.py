"""`load_segmenter`: what it takes, and what it says to anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from point_prompt_defender import SegmenterError, WeightsError, load_segmenter
from point_prompt_defender.segmenters.base import Segmenter
from point_prompt_defender.segmenters.predictor import PredictorSegmenter


def test_the_default_is_mobile_sam(segmenter) -> None:
    assert isinstance(segmenter, Segmenter) and segmenter.name == "mobile-sam"


def test_a_segmenter_comes_back_as_it_is(segmenter) -> None:
    assert load_segmenter(segmenter) is segmenter


def test_a_predictor_is_adapted() -> None:
    class Predictor:
        def set_image(self, image: np.ndarray) -> None: ...

        def predict(self, **_: object) -> None: ...

    assert isinstance(load_segmenter(Predictor()), PredictorSegmenter)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype_by_name_or_as_torch_has_it(dtype: str | torch.dtype) -> None:
    made = load_segmenter("mobile-sam", dtype=dtype, threads=1)
    assert made.dtype is torch.bfloat16  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["mobile-sma", "mobile_sam", "MobileSAM"])
def test_a_near_miss_gets_a_hint(name: str) -> None:
    with pytest.raises(SegmenterError, match=r"did you mean 'mobile-sam'\?"):
        load_segmenter(name)


@pytest.mark.parametrize("given", ["unet", 7, None])
def test_anything_else_is_told_what_can_be_given(given: object) -> None:
    with pytest.raises(SegmenterError, match=r"'mobile-sam', a Hugging Face id .* folder, or an object with set_image"):
        load_segmenter(given)


def test_a_folder_goes_to_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match="lacks config.json"):
        load_segmenter(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"dtype": "int8"}, "float32, bfloat16"), ({"dtype": torch.float64}, "float32"), ({"device": "gpu"}, "no device")],
)
def test_bad_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(SegmenterError, match=said):
        load_segmenter("mobile-sam", **options)  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_no_cuda_here() -> None:
    with pytest.raises(SegmenterError, match="no CUDA device"):
        load_segmenter("mobile-sam", device="cuda")


def test_without_weights_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PPD_CACHE", str(tmp_path))
    monkeypatch.delenv("PPD_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="run `ppd weights fetch mobile-sam` with a network"):
        load_segmenter()
