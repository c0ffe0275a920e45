"""The framework that `faceoff new framework plain` writes, as one that lies outside the project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from faceoff.conformance.drafting import TEMPLATE
from faceoff.frameworks.manifest import FILE

ROOT = Path(__file__).resolve().parents[2]
TITLE = "Plain NumPy"


def faceoff(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, run in a working folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    command = [sys.executable, "-m", "faceoff", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def write_plain(folder: Path) -> Path:
    """Writes its folder, with a title of its own; returns it."""
    folder.mkdir(parents=True)
    manifest = (TEMPLATE / FILE).read_text().replace('title = "NAME, NumPy so far"', f'title = "{TITLE}"')
    (folder / FILE).write_text(manifest.replace("NAME", "plain"))
    (folder / "__init__.py").write_text((TEMPLATE / "__init__.py").read_text())
    return folder


def edit(path: Path, there: str, written: str) -> None:
    """Replaces what stands in a file exactly once."""
    text = path.read_text()
    assert text.count(there) == 1, there
    path.write_text(text.replace(there, written))
