"""Texts of the shell (folders, commands, names, logs) as results hold them: always UTF-8, whatever bytes they had."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from faceoff.core.errors import InputError

Value = TypeVar("Value")


def clean(text: str) -> str:
    r"""The text with `\\xff` for a byte that is no UTF-8, and `\\ud800` for half a letter."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        # What Python makes of such bytes in paths and variables are lone surrogates.
        return "".join(
            f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else _plain(letter) for letter in text
        )


def _plain(letter: str) -> str:
    return letter.encode(errors="backslashreplace").decode()


def cleaned(value: Value) -> Value:
    """The same value with every text in it clean; records are changed in place."""
    return _cleaned(value)  # type: ignore[no-any-return]


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        # Of figures there are many.
        return value if value and isinstance(value[0], (int, float)) else type(value)(_cleaned(item) for item in value)
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            before = getattr(value, name)
            after = _cleaned(before)
            if after is not before:
                setattr(value, name, after)
    return value


def require_utf8(path: object, where: str, next_step: str = "rename it") -> None:
    """Raises InputError on a path that no result could name."""
    if clean(str(path)) != str(path):
        raise InputError("not UTF-8", where=where, got=clean(str(path)), next_step=next_step)
