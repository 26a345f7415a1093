"""Point Prompt Defender: learns to take bad point prompts out, so that a segmenter's masks get good again.

The names below load what they need when first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, ImageError, PPDError, PromptError, SegmenterError, WeightsError

if TYPE_CHECKING:
    from .defender import PointPromptDefender
    from .prompts import PointPrompts, RefineResult
    from .segmenters import load_segmenter

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "ImageError",
    "PPDError",
    "PointPromptDefender",
    "PointPrompts",
    "PromptError",
    "RefineResult",
    "SegmenterError",
    "WeightsError",
    "load_segmenter",
]

_LAZY = {
    "PointPromptDefender": ".defender",
    "PointPrompts": ".prompts",
    "RefineResult": ".prompts",
    "load_segmenter": ".segmenters",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
