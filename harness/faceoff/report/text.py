"""Values as text for a reader: numbers with the digits that mean something, units, and strings that cannot mislead."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

NOT_FINITE = "not finite"
CLIP_LENGTH = 160
_KEPT_CONTROLS = "\n\t"
# Cc control, Cf format (bidirectional overrides, zero-width), Cs lone surrogates: invisible, or able to reorder a line.
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs")
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def printable(text: str) -> str:
    """The text with invisible and direction-changing characters written out, such as `\\u202e`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char in _KEPT_CONTROLS or unicodedata.category(char) not in _HIDDEN_CATEGORIES:
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, length: int = CLIP_LENGTH) -> str:
    """The text, or its beginning and a note of how long it is."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters in all)"


def finite(value: float | None) -> float | None:
    """None for NaN and infinities too, as the result file stores them."""
    return value if value is not None and math.isfinite(value) else None


def significant(value: float | None, digits: int = 3, absent: str = NOT_FINITE) -> str:
    """`value` with `digits` significant digits; scientific when very small or large."""
    if value is None or not math.isfinite(value):
        return absent
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.{_decimals(value, digits)}f}"
    return f"{value:.{digits - 1}e}"


def exact(value: float | None, absent: str = NOT_FINITE) -> str:
    """Enough digits to tell apart any two neighbouring float32 values."""
    return absent if value is None or not math.isfinite(value) else f"{value:.9g}"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits - 1


def with_interval(middle: float, low: float, high: float) -> tuple[str, str]:
    """A figure and its interval in the same decimals: three significant digits, or up to five if narrow.

    A bound that is not 1, which is what a verdict hangs on, does not look like 1 where two more decimals show it.

    Returns:
        The figure, and the interval as `[low, high]`.
    """
    values = (middle, low, high)
    if not all(math.isfinite(value) for value in values):
        return significant(middle), f"[{significant(low)}, {significant(high)}]"
    decimals = _decimals(middle, 3)
    half_width = (high - low) / 2
    if half_width > 0:
        decimals = max(decimals, min(_decimals(half_width, 1), decimals + 2))
    wide_enough = (
        more for more in range(decimals, decimals + 3) if not any(_rounds_to_1(v, more) for v in (low, high))
    )
    decimals = next(wide_enough, decimals)
    texts = [f"{value:,.{decimals}f}" for value in values]
    return texts[0], f"[{texts[1]}, {texts[2]}]"


def _rounds_to_1(value: float, decimals: int) -> bool:
    return value != 1 and round(value, decimals) == 1


def time_unit(shortest_s: float) -> tuple[float, str]:
    """The largest unit in which the shortest of some durations is at least 1, as `(seconds in it, its name)`."""
    for size_s, name in _TIME_UNITS:
        if shortest_s >= size_s:
            return size_s, name
    return _TIME_UNITS[-1]


def duration(seconds: float | None) -> str:
    """A duration for people: `41.2 ms`, `3.5 s`, `4 min 12 s`, `1 h 02 min`."""
    if seconds is None or not math.isfinite(seconds):
        return NOT_FINITE
    whole = round(seconds)
    if whole < 60:
        size_s, unit = time_unit(seconds) if seconds > 0 else _TIME_UNITS[0]
        return f"{significant(seconds / size_s)} {unit}"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(timestamp: str) -> str:
    """An ISO 8601 time without fractions of a second; any other text as it stands."""
    try:
        return datetime.fromisoformat(timestamp).isoformat(" ", "seconds")
    except ValueError:
        return timestamp


def percent(share: float | None, absent: str = NOT_FINITE) -> str:
    """A share as a percentage with one decimal."""
    return absent if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def value_text(value: Any, name: str = "") -> str:
    """Any JSON value in one line; a whole number whose name ends in `_bytes` in a unit as well."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int) and name.endswith("_bytes") and value >= 1024:
        return _bytes_text(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value)
    return str(value) if not isinstance(value, dict) else json.dumps(value, default=str)


def _bytes_text(count: int) -> str:
    size, unit = next(
        ((2**power, unit) for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if count >= 2**power)
    )
    return f"{count / size:.1f} {unit}"


def flatten(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested JSON values as `{"outer.inner": text}`, in their order."""
    found: dict[str, str] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            found.update(flatten(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value_text(value, str(key))
    return found


def fact_label(key: str) -> str:
    """What a fact of a machine is called: `gpu.power_limit_w` is `GPU power limit, W`."""
    words = key.replace("gpu.", "GPU ").removesuffix("_bytes")
    for suffix, unit in (("_w", "W"), ("_mhz", "MHz")):
        if words.endswith(suffix):
            words = f"{words.removesuffix(suffix)}, {unit}"
    return words.replace("_", " ").replace("uuid", "UUID").replace("cuda", "CUDA")


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 model`, `4 models`; `plural` where an s does not do."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
