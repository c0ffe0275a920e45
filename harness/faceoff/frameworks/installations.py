"""Whether a framework is installed for its interpreter, and in which versions.

Nothing here imports a framework: what is installed is read from package metadata.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.core import packages
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.manifest import Framework
from faceoff.frameworks.registry import CONFIG_FILE, FRAMEWORKS, OURS
from faceoff.system.advice import install_command


def variable_name(framework: str) -> str:
    """The environment variable that names the interpreter of `framework`."""
    return f"FACEOFF_PYTHON_{framework.upper()}"


def interpreter(framework: str, configuration: Configuration) -> str:
    """The interpreter that runs `framework`: environment variable, then `faceoff.toml`, then this one."""
    chosen = os.environ.get(variable_name(framework)) or configuration.interpreters.get(framework)
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else sys.executable


@dataclass(frozen=True)
class Installation:
    """Whether a framework is there for its interpreter.

    Args:
        python: the interpreter.
        versions: distribution to version; empty when missing.
        reason: why it is missing, one line; empty when it is there.
        next_step: the command that mends it.
        install: the command that installs all that the framework needs, also where some of it is there.
    """

    python: str
    versions: dict[str, str]
    reason: str = ""
    next_step: str = ""
    install: str = ""

    @property
    def installed(self) -> bool:
        return not self.reason


def find_installation(framework: Framework, configuration: Configuration) -> Installation:
    """Looks for `framework` in its interpreter, without importing it."""
    python = framework.python or interpreter(framework.name, configuration)
    # Face-off knows what its own frameworks need; of others there is what their manifests name.
    own = framework.folder.parent == OURS
    wanted = [f"{_project()}[{framework.name}]"] if own else framework.distributions
    install = f"install it: {install_command(python, *wanted)}"
    if framework.environment:
        label = framework.label
        install = f"make it anew: faceoff env remove {label}, then faceoff env create {label} with the same options"
    try:
        answer = _ask(python, "look_up", framework.module, framework.distributions)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        step = install if framework.environment else f"check {variable_name(framework.name)} or {CONFIG_FILE}"
        return Installation(python, {}, f"interpreter {python} cannot be run: {_told(error)}", step)
    found, versions = answer["found"], answer["versions"]
    if not found:
        return Installation(python, {}, f"no module named {framework.module!r} for {python}", install)
    return Installation(python, versions, install=install)


@functools.cache
def installed_in(python: str) -> dict[str, str]:
    """Everything that is installed for an interpreter: distribution to version, by name. Empty if it cannot be asked.

    Asked for once: nobody installs anything during a run.
    """
    try:
        return {str(name): str(version) for name, version in _ask(python, "list_all").items()}
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
        return {}


def digest_of(installed: Mapping[str, str]) -> str:
    """A short digest of what `installed_in` found; empty for nothing."""
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(installed.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16] if lines else ""


def _told(error: Exception) -> str:
    """Why an interpreter gave no answer, in words for its user."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = (error.stderr or "").strip().splitlines() or ["it printed nothing"]
        return f"it ended with status {error.returncode}: {lines[-1].strip()}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it does not answer as Python does"


def _project() -> str:
    """What `pip install` takes for Face-off: its folder, where it was not copied away from there."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").exists():
        return "faceoff"
    return "." if root == Path.cwd() else str(root)


@functools.cache
def installed_bytes(name: str, python: str) -> int | None:
    """Size on disk of a framework and all that it requires, for an interpreter; None when that cannot be found out."""
    try:
        return int(_ask(python, "disk_bytes", "", FRAMEWORKS[name].distributions))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _ask(python: str, what: str, module: str = "", distributions: Sequence[str] = ()) -> Any:
    """What a function of `faceoff.core.packages` finds for an interpreter."""
    if python == sys.executable:
        return packages.answer(what, module, distributions)
    command = [python, packages.__file__, what, module, *distributions]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
