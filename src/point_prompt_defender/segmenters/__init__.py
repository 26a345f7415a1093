"""Segmenters: promptable models, and `load_segmenter`, which makes one from whatever the user has."""

from __future__ import annotations

import difflib
import os
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import SegmenterError

if TYPE_CHECKING:
    import torch

    from .base import Segmenter

__all__ = ["load_segmenter"]

DEFAULT = "mobile-sam"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CHOICES = (
    f"give {DEFAULT!r}, a Hugging Face id such as 'facebook/sam-vit-base', a model's folder, or an object with "
    "set_image() and predict()"
)


def load_segmenter(
    name_or_object: Any = DEFAULT,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    threads: int = 0,
) -> Segmenter:
    """Make a segmenter.

    Args:
        name_or_object: "mobile-sam", the default, whose weights `ppd weights fetch` brings; a Hugging Face id
            ("org/name") or a local folder of a SAM-like model of transformers; an object with `set_image` and
            `predict`, such as SamPredictor; or a `Segmenter`, which comes back as it is.
        device: "cpu", "cuda" or "cuda:N", for those that are made here.
        dtype: "float32" or "bfloat16", or the same as torch has them; for those that are made here.
        threads: CPU threads of mobile-sam's image encoder, 0 for all.

    Returns:
        A `Segmenter`.

    Raises:
        SegmenterError: unknown name, object, device or dtype, or a package that is missing.
        WeightsError: the weights are missing or damaged.
    """
    from .base import Segmenter

    if not isinstance(name_or_object, (str, os.PathLike)):
        if isinstance(name_or_object, Segmenter):
            return name_or_object
        if hasattr(name_or_object, "set_image") and hasattr(name_or_object, "predict"):
            from .predictor import PredictorSegmenter

            return PredictorSegmenter(name_or_object)
        raise SegmenterError(f"A {type(name_or_object).__name__} is no segmenter; {_CHOICES}.")

    name = os.fspath(name_or_object)
    device, dtype = _device(device), _dtype(dtype)
    if name == DEFAULT:
        from ..weights import resolve
        from .mobile_sam import MobileSamSegmenter

        return MobileSamSegmenter(**resolve(name), device=device, dtype=dtype, threads=threads)
    if os.path.isdir(os.path.expanduser(name)) or _HUB_ID.fullmatch(name):
        if not (find_spec("transformers") and find_spec("huggingface_hub")):
            raise SegmenterError(
                f"Models such as {name!r} need transformers; install it with pip install 'point-prompt-defender"
                "[transformers]'."
            )
        from .transformers_sam import TransformersSegmenter

        return TransformersSegmenter(name, device=device, dtype=dtype)
    near = difflib.get_close_matches(name.lower().replace("_", "-"), [DEFAULT, "mobilesam"], n=1)
    hint = f" (did you mean {DEFAULT!r}?)" if near else ""
    raise SegmenterError(f"There is no segmenter {name!r}{hint}; {_CHOICES}.")


def _device(device: str | torch.device) -> str:
    """The name of a device that is there."""
    import torch

    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise SegmenterError(f"{device!r} is no device; choose 'cpu', 'cuda' or 'cuda:0'.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise SegmenterError("torch finds no CUDA device here; choose device='cpu', or install a CUDA build of torch.")
    return str(device)


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    """float32 or bfloat16: what the segmenters are tested with."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    found = known.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise SegmenterError(f"{dtype!r} is no number type for a segmenter; choose one of {', '.join(known)}.")
    return found
