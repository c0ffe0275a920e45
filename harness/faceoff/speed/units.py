"""Figures in the unit that reads best, for a terminal."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Seconds in the unit that reads best, three digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
