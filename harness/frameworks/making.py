"""An environment of its own for a framework: made, filled, and named in `faceoff.toml`."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import tomlkit
from packaging.requirements import Requirement

from harness.core.errors import HarnessError, InputError
from harness.core.spec import require_choice
from harness.frameworks.configuration import read_configuration
from harness.frameworks.installations import Installation, find_installation
from harness.frameworks.registry import CONFIG_FILE, FRAMEWORKS
from harness.results.file import require_writable, write_text

ERROR_LINES = 3
VERSION = ".".join(platform.python_version_tuple()[:2])


def create(framework: str, folder: Path | None = None, gpu: bool = False, quiet: bool = False) -> Installation:
    """Makes a virtual environment, installs a framework in it, and lets `faceoff.toml` name its interpreter.

    A folder that cannot be filled is removed again.

    Args:
        framework: its name.
        folder: where; None means `.venv-FRAMEWORK` in the working folder.
        gpu: the build for NVIDIA's GPUs, with the CUDA libraries that it pins.
        quiet: say nothing of what pip does.

    Returns:
        What is installed there.

    Raises:
        InputError: a framework that is not known, a folder that is there already, or a `faceoff.toml` that is damaged.
        HarnessError: pip could not install it.
    """
    require_choice(framework, tuple(FRAMEWORKS), "framework")
    # Found out before anything takes long.
    read_configuration()
    require_writable(Path(CONFIG_FILE), "work in a folder that can be written to")
    folder = folder or Path(f".venv-{framework}")
    if folder.exists():
        raise InputError("is there already", where=str(folder), next_step="remove it, or choose another with --dir")
    wanted = requirements(f"{framework}-gpu" if gpu else framework)
    python = folder.absolute() / "bin" / "python"
    try:
        without_pip = f"install what Python's venv needs (Debian: apt-get install python{VERSION}-venv), or use uv"
        _run([sys.executable, "-m", "venv", str(folder)], quiet, f"make {folder}", without_pip)
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *(["--quiet"] if quiet else [])]
        _run([*pip, "numpy", *wanted], quiet, f"install {', '.join(wanted)}", "see pip's message")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _name_interpreter(framework, python)
    return find_installation(FRAMEWORKS[framework], read_configuration())


def requirements(extra: str) -> list[str]:
    """What an optional dependency of Face-off installs, with versions."""
    listed = [Requirement(text) for text in importlib.metadata.requires("faceoff") or []]
    found = []
    for requirement in listed:
        if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
            requirement.marker = None
            found.append(str(requirement))
    if not found:
        raise InputError("nothing to install", where=extra, next_step="install Face-off anew: its metadata are older")
    return found


def _run(command: list[str], quiet: bool, what: str, next_step: str) -> None:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE if quiet else sys.stderr, stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise HarnessError(f"could not {what}", got=str(error)) from None
    if done.returncode:
        # What venv has to say of a missing ensurepip it prints, and with empty lines between.
        lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines() if line.strip()]
        said = " / ".join(lines[-ERROR_LINES:])
        raise HarnessError(f"could not {what}", got=said or f"status {done.returncode}", next_step=next_step)


def _name_interpreter(framework: str, python: Path) -> None:
    """Sets the interpreter in `faceoff.toml`; everything else there, comments too, stays."""
    path = Path(CONFIG_FILE)
    document = tomlkit.parse(path.read_text(encoding="utf-8-sig")) if path.exists() else tomlkit.document()
    interpreters = document.setdefault("interpreters", tomlkit.table())
    interpreters[framework] = str(python)
    write_text(path, tomlkit.dumps(document))
