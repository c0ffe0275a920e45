"""The framework that `faceoff new framework plain` writes, as one that lies outside the project."""

from __future__ import annotations

from pathlib import Path

from harness.conformance.drafting import TEMPLATE
from harness.frameworks.manifest import FILE

TITLE = "Plain NumPy"


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
