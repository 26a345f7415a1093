"""The result of a run: the last round's agents, with their cards, for `PointPromptDefender.from_pretrained`."""

from __future__ import annotations

from typing import Any

from ..agents.files import save_network
from ..io.files import replace_atomically
from .card import card_text, make_card
from .self_play import SelfPlay


def export_agents(play: SelfPlay, log: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Write attacker.safetensors, defender.safetensors and README.md into a finished run's folder.

    Args:
        play: the run, after its last round.
        log: its entries, one a round.

    Returns:
        Both agents' cards, by role.

    Raises:
        OSError: the folder can't be written.
    """
    cards = {}
    earlier = play.start_from.name if play.start_from else None
    for role, agent in play.agents.items():
        cards[role] = make_card(play.config, role, play.datasets, play.run.resolve().name, log, earlier)
        save_network(agent.online, play.run / f"{role}.safetensors", cards[role])
    with replace_atomically(play.run / "README.md") as temporary:
        temporary.write_text(card_text(cards["defender"]), encoding="utf-8")
    return cards
