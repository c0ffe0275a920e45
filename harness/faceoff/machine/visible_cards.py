"""Which GPUs there are to choose from, by what the caller's shell shows."""

from __future__ import annotations

import itertools
import os

from faceoff.core.errors import InputError


def shown_cards() -> list[str] | None:
    """The cards that the caller's shell shows, by number or name; None where it says nothing, and all are shown."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return None
    # To CUDA an empty list hides all, and -1 all that come after it.
    parts = [part.strip() for part in setting.split(",")]
    return [part for part in itertools.takewhile(lambda part: part != "-1", parts) if part]


def visible_cards(device: str, card: int) -> str:
    """The value of `CUDA_VISIBLE_DEVICES` with which a worker sees one card alone, or none.

    Cards are counted as by `nvidia-smi`; where the caller's shell shows some alone, among those.

    Raises:
        InputError: there are not so many in what the shell shows.
    """
    if device != "gpu":
        return ""
    shown = shown_cards()
    if shown is None:
        return str(card)
    if card >= len(shown):
        expected = f"0 to {len(shown) - 1}, as" if shown else "none, as"
        expected += f" CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} shows no more"
        raise InputError("no such GPU", where="device", got=f"gpu:{card}", expected=expected)
    return shown[card]
