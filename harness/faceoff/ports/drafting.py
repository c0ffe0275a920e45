"""`faceoff new model DIR`: a folder that runs as it is, with a small model in each framework, to be edited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from faceoff.core.errors import InputError
from faceoff.frameworks.registry import FRAMEWORKS, require_framework
from faceoff.ports.manifest import FILE
from faceoff.results.file import make_folder, write_text

TEMPLATE = Path(__file__).with_name("template")
# In a framework's folder: the same small model as in all others.
SIDE = "model_template.py"


def draft_model(folder: Path, reference: str, ports: Sequence[str]) -> list[Path]:
    """Writes a model and its ports.

    Args:
        folder: where, and the model's name.
        reference: the framework of the model that is ported.
        ports: those that it is ported to.

    Returns:
        The files.

    Raises:
        InputError: a framework that is not known, named twice, or has no model to begin with; or a folder that is there
            already.
    """
    sides = [reference, *ports]
    for framework in sides:
        require_framework(framework, "to" if framework in ports else "from")
        if sides.count(framework) > 1:
            raise InputError("named twice", where="to", got=framework, expected="one side in each framework")
        if not (FRAMEWORKS[framework].folder / SIDE).is_file():
            known = [name for name in FRAMEWORKS.usual if (FRAMEWORKS[name].folder / SIDE).is_file()]
            raise InputError(
                "no model to begin with in this framework", where="to" if framework in ports else "from", got=framework,
                expected=f"some of {', '.join(known)}", next_step="name one of these",
            )  # fmt: skip
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "model"
    parts = [_template(FILE).replace("NAME", name).replace("REFERENCE", reference)]
    parts += [_template("side.toml").replace("NAME", framework) for framework in sides]
    parts.append(_template("rules.toml").replace("NAME", ports[0]))
    texts = {FILE: "".join(parts)}
    for framework in sides:
        texts[f"{framework}_model.py"] = (FRAMEWORKS[framework].folder / SIDE).read_text(encoding="utf-8")
    make_folder(folder, "remove it, or name another folder")
    for file, text in texts.items():
        write_text(folder / file, text)
    return [folder / file for file in texts]


def _template(file: str) -> str:
    return (TEMPLATE / file).read_text(encoding="utf-8")
