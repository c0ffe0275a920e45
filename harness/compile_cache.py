"""What a compiler that was killed leaves in the folder of compiled code."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

# TorchInductor's compiler works in a folder of this name beside what it makes, and removes it when it is done.
AT_WORK = "_CxxBuild"


def remove_unfinished(folder: Path) -> list[Path]:
    """Removes libraries that TorchInductor has not finished and nobody is at work on: it would load them for ever.

    It writes a library under its final name, and takes one that is there for whole.

    Args:
        folder: its cache.

    Returns:
        What was removed.
    """
    removed = []
    begun = list(folder.glob(f"*/*{AT_WORK}"))
    busy = _working_folders() if begun else set()
    for place in begun:
        if place.resolve() not in busy:
            library = place.with_name(place.name.removesuffix(AT_WORK) + ".so")
            library.unlink(missing_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            removed.append(library)
    return removed


def _working_folders() -> set[Path]:
    """The working folders of all processes that may be looked at."""
    found = (process.info["cwd"] for process in psutil.process_iter(["cwd"]))
    return {Path(folder) for folder in found if folder}
