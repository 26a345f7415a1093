"""Load models of the Hugging Face format, from a folder or by Hub id: safetensors only, nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import SegmenterError, WeightsError

_PATTERNS = ["*.json", "*.safetensors"]


def transformers_class(name: str) -> Any:
    """A class of transformers by its name, such as "SamModel"; an optional dependency, imported when first needed.

    Raises:
        SegmenterError: transformers is missing, or too old for this class.
    """
    try:
        import transformers

        return getattr(transformers, name)
    except (ImportError, AttributeError):
        raise SegmenterError(
            f"This model needs transformers with {name}; run: pip install -U 'point-prompt-defender[transformers]'."
        ) from None


def find_folder(name_or_folder: str | os.PathLike[str]) -> Path:
    """The folder that holds a model's config and weights.

    Args:
        name_or_folder: a local folder, or a Hub id such as "facebook/sam-vit-base". Only an id that is not in the
            Hub's local cache yet makes this touch the network.

    Raises:
        WeightsError: no such folder; or an id that is not cached and can't be fetched.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        if not _complete(folder):
            raise WeightsError(f"The folder {folder} lacks config.json or model.safetensors; name one that has both.")
        return folder
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise WeightsError(
            f"{str(name_or_folder)!r} is no folder, and models from the Hugging Face Hub need an extra; "
            "run: pip install 'point-prompt-defender[transformers]'."
        ) from None

    for only_cached in (True, False):
        try:
            found = Path(snapshot_download(str(name_or_folder), allow_patterns=_PATTERNS, local_files_only=only_cached))
        # Requests, the Hub's answers, refused ids and full disks all come as one of these.
        except (OSError, ValueError, RuntimeError):
            continue
        if _complete(found):
            return found
    raise WeightsError(
        f"{str(name_or_folder)!r} is neither a folder nor a Hugging Face model with safetensors that is cached here or "
        "can be fetched now; check the name, the network and, for gated models, that you are logged in."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        WeightsError: it can't be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"config.json in {folder} can't be read ({error}); fetch the model anew.") from None
    if not isinstance(config, dict):
        raise WeightsError(f"config.json in {folder} is no JSON object; fetch the model anew.")
    return config


def read_normalisation(folder: Path, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """How a model wants its pixels.

    Args:
        folder: of the model; its preprocessor_config.json or processor_config.json is asked first.
        mean, std: per channel RGB over values in [0, 1], taken where the folder says nothing.

    Returns:
        (2, 3) float32: mean and standard deviation per channel RGB, over values in [0, 255].
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
            settings = settings.get("image_processor", settings)
            mean, std = settings.get("image_mean") or mean, settings.get("image_std") or std
            break
    return np.array([mean, std], np.float32) * 255


def load_model(model_class: Any, folder: Path, device: str | torch.device) -> Any:
    """A transformers model from a folder, in float32, ready to use; never unpickles, never touches the network.

    Args:
        model_class: a transformers class with `from_pretrained`.
        folder: from `find_folder`.
        device: where to put it, such as "cpu" or "cuda".

    Raises:
        WeightsError: a damaged file, or weights that leave part of the model random.
    """
    from safetensors import SafetensorError

    with _quiet():
        try:
            model, report = model_class.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"The weights in {folder} do not load as {model_class.__name__} ({_first_line(error)}); "
                "fetch them anew."
            ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(
            f"The weights in {folder} lack {len(missing)} parts of {model_class.__name__}, {missing[0]} for one; "
            "name a complete model."
        )
    return model.to(device).eval().requires_grad_(False)


def _complete(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        shards = {"model.safetensors"}
    return all((folder / name).is_file() for name in ("config.json", *shards))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' notes and bars while it loads: what matters of them is raised as an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
