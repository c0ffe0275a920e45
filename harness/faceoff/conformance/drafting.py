"""`faceoff new framework NAME`: a folder that runs as it is, with dense models in NumPy, to be edited."""

from __future__ import annotations

import re
from pathlib import Path

from faceoff.core.errors import InputError
from faceoff.frameworks.configuration import read_configuration
from faceoff.frameworks.environments import name_framework
from faceoff.frameworks.manifest import FILE, NAME
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.file import make_folder, write_text

TEMPLATE = Path(__file__).with_name("template")


def draft(name: str, folder: Path | None = None) -> Path:
    """Writes the folder of a new framework, and names it in `faceoff.toml`.

    Args:
        name: of the framework.
        folder: where; `NAME` in the working folder unless given.

    Returns:
        The folder.

    Raises:
        InputError: a name that cannot be one or is taken, or a folder that is there already.
    """
    if not re.fullmatch(NAME, name):
        expected = "small letters, digits and underscores, such as my_framework"
        raise InputError("no name for a framework", where="name", got=repr(name), expected=expected)
    if name in FRAMEWORKS or name in FRAMEWORKS.broken:
        raise InputError("there is a framework of this name", where="name", got=name, next_step="choose another")
    folder = folder or Path(name)
    manifest = (TEMPLATE / FILE).read_text(encoding="utf-8").replace("NAME", name)
    # Found out before anything is written.
    read_configuration()
    make_folder(folder, "remove it, or choose another with --dir")
    write_text(folder / FILE, manifest)
    write_text(folder / "__init__.py", (TEMPLATE / "__init__.py").read_text(encoding="utf-8"))
    name_framework(name, folder)
    FRAMEWORKS.forget()
    return folder
