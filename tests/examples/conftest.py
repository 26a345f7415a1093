"""Examples are programs, not modules: load them by path."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def load_example():
    """Gives the module of an example by its name."""

    def load(name: str):
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "examples" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
