"""Settings as text: change them by name, list them with their defaults, spell them as `ppd train` takes them."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .config import TrainingConfig, load_config, parse_config, presets, read_settings, setting_names, tomllib


def config_of(preset: str, changes: Sequence[str] = (), seed: int | None = None) -> TrainingConfig:
    """A preset with some settings changed.

    Args:
        preset: a preset's name or the path of a TOML file.
        changes: "name=value" each, such as "learning.gamma=0.9" or "epsilon=[1.0, 0.1]"; values are written as in
            TOML, strings also without quotes, and "none" is no value.
        seed: the seed, where it is to be another one.

    Raises:
        ConfigError: an unknown preset or setting, or an unfit value.
    """
    content, source = copy.deepcopy(read_settings(preset)), Path(preset).name
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign or not name.strip():
            raise ConfigError(f"{change!r} changes no setting; write name=value, such as learning.gamma=0.9.")
        *groups, last = name.strip().split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name.strip()} is no setting; `ppd train --list-settings` shows them all.")
        place[last] = _read(value.strip())
        source = f"{Path(preset).name} with --set"
    if seed is not None:
        content["seed"] = seed
    return parse_config(content, source)


def values(config: TrainingConfig) -> dict[str, Any]:
    """Every setting by its name, groups joined by dots."""
    found = {}
    for name, _ in setting_names():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        found[name] = value
    return found


def describe() -> str:
    """A line a setting: its name, its default, what the other presets have instead, and what it means."""
    base = values(load_config("default"))
    others = {name: values(load_config(name)) for name in presets() if name != "default"}
    lines = []
    for name, field in setting_names():
        differing = [f"{preset}: {spell(v[name])}" for preset, v in others.items() if v[name] != base[name]]
        instead = f" ({', '.join(differing)})" if differing else ""
        lines.append(f"{name} = {spell(base[name])}{instead}\n    {field.description}")
    return "\n".join(lines)


def command_line(config: TrainingConfig, data: Sequence[str], run: str, earlier: str | None = None) -> str:
    """The `ppd train` command that gives these settings.

    Args:
        config: the settings.
        data: names of the data folders.
        run: name of the run's folder.
        earlier: name of the run that it starts from, if any.
    """
    preset = config.name if config.name in presets() else "default"
    base = values(load_config(preset))
    changed = {name: value for name, value in values(config).items() if value != base[name]}
    seed = changed.pop("seed", None)
    words = ["ppd", "train", "--data", *data, "--out", run, "--preset", preset]
    words += ["--from", earlier] if earlier else []
    words += ["--seed", str(seed)] if seed is not None else []
    for name, value in changed.items():
        words += ["--set", f"{name}={spell(value)}"]
    return shlex.join(words)


def spell(value: Any) -> str:
    """A value as `config_of` reads it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {spell(part)}" for key, part in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(spell(part) for part in value) + "]"
    return json.dumps(value)


def _read(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
