"""Which of the names of models are paths of users' own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceoff.core.spec import MODEL_KINDS


def split(models: Sequence[str]) -> tuple[list[str], list[str]]:
    """The built-in families among names, and whatever else is a path."""
    paths = [name for name in models if name not in MODEL_KINDS and (_looks_like_one(name) or Path(name).exists())]
    return [name for name in models if name not in paths], paths


def _looks_like_one(name: str) -> bool:
    return "/" in name or name.startswith(".") or name.endswith(".toml")
