"""What to do next, in words that help in the state that asks for them."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST)


def to_begin(number: int | None) -> str:
    """What to do where a run cannot begin to write, for this reason (`OSError.errno`)."""
    if number in _FULL:
        return "make room, or choose another folder with --out"
    if number in _IN_THE_WAY:
        return "remove what is in its place, or choose another folder with --out"
    return "choose another folder with --out"


def to_go_on(number: int | None, command: str) -> str:
    """What to do where a run that has begun can write no further; `command` resumes it."""
    if number in _FULL:
        step = f"make room, then `{command}`"
    elif number in _FORBIDDEN:
        step = f"let it be written to, then `{command}`; or copy the folder, and --resume the copy"
    elif number in _IN_THE_WAY:
        step = f"remove what is in its place, then `{command}`"
    else:
        step = f"once it can be written, `{command}`"
    return f"what was finished is kept; {step}"


def install_command(python: str, *wanted: str) -> str:
    """The command that installs something for an interpreter, which may not be the one whose `pip` the shell finds."""
    named, names = shlex.quote(python), " ".join(shlex.quote(name) for name in wanted)
    if _made_by_uv(python):
        return f"uv pip install --python {named} {names}"
    return f"{named} -m pip install {names}"


def _made_by_uv(python: str) -> bool:
    """Whether an interpreter's environment is one of uv's, which has no pip of its own unless it was asked for."""
    environment = Path(python).parent.parent
    try:
        is_uvs = "\nuv = " in f"\n{(environment / 'pyvenv.cfg').read_text(encoding='utf-8', errors='replace')}"
    except OSError:
        return False
    return is_uvs and not any(environment.glob("lib/python*/site-packages/pip"))
