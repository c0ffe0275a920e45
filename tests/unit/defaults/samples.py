"""An atlas of defaults as the command makes it, built by code, for the tests of the page."""

from __future__ import annotations

from faceoff.defaults import Atlas, Effect, Finding
from faceoff.defaults.atlas import make_row

HOSTILE = "<script>alert(1)</script>"


def effect(size: float, chance: float | None = None) -> Effect:
    """Of a default, on the loss."""
    return Effect(
        measured_on="the float64 reference", quantity="loss after 20 steps", relative_difference=size, chance=chance
    )


def atlas() -> Atlas:
    """Two words that differ, one of them no more than by chance, and one on which all agree."""
    rows = [
        ("batch norm", "epsilon", ("1e-5", "1e-3"), [effect(0.004), effect(0.08)]),
        ("dense", f"bias {HOSTILE}", ("uniform", "zeros"), [effect(0.006, chance=0.005)]),
        ("dense", "padding", ("none", "none"), [effect(3.0)]),
    ]
    found = []
    for topic, word, (first, second), effects in rows:
        row = make_row(topic, word, {"pytorch": Finding(words=first), "jax": Finding(words=second)})
        found.append(row.model_copy(update={"effects": effects}))
    return Atlas(
        created="2025-03-04T10:20:30+00:00", seed=0, duration_s=65.0,
        frameworks={"pytorch": {"torch": "2.13.0"}, "jax": {"jax": "0.10.2"}},
        outcomes={"pytorch": "ok", "jax": "ok"}, rows=found,
    )  # fmt: skip
