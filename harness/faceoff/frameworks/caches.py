"""Where what can be computed anew, but takes long, is kept between runs."""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from faceoff.machine.processor import describe_processor


def cache_root() -> Path:
    """The folder for what can be computed anew but takes long; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # One that is not absolute is to be ignored, says the specification; each process would take it for another one.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "faceoff"


def compile_cache_root() -> Path:
    """The folder for compiled code: the same, unless there is a space in its path, which some compilers cannot bear."""
    root = cache_root()
    return Path(tempfile.gettempdir()) / f"faceoff-{os.getuid()}" if re.search(r"\s", str(root)) else root


def cache_directory(versions: Mapping[str, str]) -> Path:
    """The folder, made if need be, where code compiled by these versions on such a processor is kept between runs.

    Raises:
        OSError: it cannot be made or written to.
    """
    folder = compile_cache_root() / f"{zlib.crc32(repr((sorted(versions.items()), describe_processor())).encode()):08x}"
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to")
    return folder
