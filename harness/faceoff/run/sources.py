"""The files in which each model is written, by framework, and what they were when a result was made."""

from __future__ import annotations

import hashlib
from pathlib import Path

from faceoff.core.spec import AT, MODEL_KINDS
from faceoff.frameworks.registry import FRAMEWORKS

PACKAGE = Path(__file__).resolve().parents[1]
IMPLEMENTATIONS = "impls"
REFERENCE = "faceoff/reference"
# What is made of the code, and what is said of it.
LEFT_OUT = (".pyc", ".md")


def source_path(framework: str, kind: str) -> str:
    """Of a framework's model, relative to the folder that holds this package; of the NumPy reference for `reference`.

    An environment that has the framework's own folder has its path too.
    """
    name = framework.partition(AT)[0]
    if framework in FRAMEWORKS and name in FRAMEWORKS and FRAMEWORKS[framework].folder == FRAMEWORKS[name].folder:
        framework = name
    return f"{REFERENCE if framework == 'reference' else f'{IMPLEMENTATIONS}/{framework}'}/{kind}.py"


def read_source(path: str) -> str | None:
    """The text of a file named by `source_path`; None when it is not there."""
    first, name, *rest = Path(path).parts
    # A framework's folder may lie anywhere; a path names it as if it were one of the project's.
    file = (
        FRAMEWORKS[name].folder.joinpath(*rest)
        if first == IMPLEMENTATIONS and name in FRAMEWORKS
        else PACKAGE.parent / path
    )
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return None


def digest(text: str) -> str:
    """What a result records of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_folder(framework: str) -> str:
    """Of all code in a framework's folder and in what it shares with others, short."""
    found = hashlib.sha256()
    for folder in (FRAMEWORKS[framework].folder, *FRAMEWORKS[framework].shared_folders):
        for path in sorted(path for path in folder.rglob("*") if path.suffix not in LEFT_OUT and path.is_file()):
            # Only where a file lies within its folder, as an environment may have a copy of that.
            found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def digests(frameworks: list[str]) -> dict[str, str]:
    """The digest of every model's file in some frameworks and the reference, by path."""
    paths = [source_path(framework, kind) for framework in [*frameworks, "reference"] for kind in MODEL_KINDS]
    texts = {path: read_source(path) for path in paths}
    return {path: digest(text) for path, text in texts.items() if text is not None}
