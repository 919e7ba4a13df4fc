"""The systemd unit: its lines, and the settings that a node gets from it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs/deploy"
UNIT = FOLDER / "holon.service"


def values(key: str) -> list[str]:
    """What stands behind each line of a key."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def environment() -> dict[str, str]:
    """What the node finds in its environment, by the unit and by the file that it names."""
    lines = (FOLDER / "holon.env").read_text(encoding="utf-8").splitlines()
    pairs = [line for line in lines if line and not line.startswith("#")]
    for value in values("Environment"):
        pairs += value.split()
    return dict(pair.split("=", 1) for pair in pairs)
