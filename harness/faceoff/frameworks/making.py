"""An environment for a framework: made, filled, frozen, and named in `faceoff.toml`."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from faceoff.core.errors import HarnessError, InputError
from faceoff.core.spec import AT
from faceoff.frameworks.configuration import Environment, read_configuration
from faceoff.frameworks.environments import FROZEN, name_environment, name_interpreter
from faceoff.frameworks.installations import Installation, digest_of, find_installation, installed_in
from faceoff.frameworks.manifest import Framework
from faceoff.frameworks.registry import CONFIG_FILE, FRAMEWORKS, require_framework, split_label
from faceoff.results.file import make_folder, require_writable, write_text
from faceoff.system.whole_files import scratch_folder

ERROR_LINES = 3
# NVIDIA's libraries, as a build for GPUs brings them along; measured with one for CUDA 13.
LIBRARIES_GB = 2.8
VERSION = ".".join(platform.python_version_tuple()[:2])


def create(
    label: str,
    folder: Path | None = None,
    gpu: bool = False,
    quiet: bool = False,
    wanted: Sequence[str] = (),
    python: str = "",
    revision: str = "",
) -> Installation:
    """Makes an environment of a framework, and lets `faceoff.toml` name it. One that cannot be filled is removed again.

    Args:
        label: `NAME` for the environment that contenders `NAME:...` run in, `NAME@ENVIRONMENT` for one beside it.
        folder: where; None means `.venv-NAME` or `.venv-NAME-ENVIRONMENT` in the working folder.
        gpu: the build for NVIDIA's GPUs, with the CUDA libraries that it pins.
        quiet: say nothing of what pip does.
        wanted: requirements in place of those that Face-off pins, such as `numpy==1.26.*`.
        python: interpreter or version, such as `3.10`; the one that runs this unless given.
        revision: of the framework's folder, as git names it; the folder as it was then is used.

    Returns:
        What is installed there.

    Raises:
        InputError: a framework, requirement, interpreter or revision that is not known, a folder or an environment that
            is there already, or a `faceoff.toml` that is damaged.
        HarnessError: it could not be made.
    """
    name, environment = split_label(label, "environment")
    framework = require_framework(name, "environment")
    # Found out before anything takes long.
    configuration = read_configuration()
    require_writable(Path(CONFIG_FILE), "work in a folder that can be written to")
    if label in configuration.environments:
        raise InputError(
            "named in faceoff.toml already", where=CONFIG_FILE, got=label,
            next_step=f"faceoff env remove {label}, or choose another name",
        )  # fmt: skip
    if revision and not environment:
        raise InputError("only for an environment", where="--from", got=name, expected=f"{name}{AT}ENVIRONMENT")
    folder = folder or Path(f".venv-{label.replace(AT, '-')}")
    code_alone = bool(revision) and not (wanted or python or gpu)
    listed = [] if code_alone else requirements(framework, wanted, gpu)
    chosen = Environment(folder=str(folder.absolute()))
    make_folder(folder, "remove it, or choose another with --dir")
    try:
        if not code_alone:
            _say_what_it_takes(framework, folder, gpu)
            chosen.python = _install(folder, listed, python, quiet)
        if revision:
            chosen.path = str(take_folder(framework.folder, revision, folder.absolute() / "impls" / name))
            for shared in framework.shared_folders:
                take_folder(shared, revision, folder.absolute() / "impls" / shared.name)
        interpreter = chosen.python or find_installation(framework, configuration).python
        installed_in.cache_clear()
        installed = installed_in(interpreter)
        write_text(folder / FROZEN, "".join(f"{key}=={version}\n" for key, version in installed.items()))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    chosen.installed = digest_of(installed)
    if environment:
        name_environment(label, chosen)
    else:
        name_interpreter(name, chosen.python)
    FRAMEWORKS.forget()
    return find_installation(require_framework(label, "environment"), read_configuration())


def _say_what_it_takes(framework: Framework, folder: Path, gpu: bool) -> None:
    """How much disk, before anything is downloaded. Raises InputError where there is no room for the least."""
    if framework.takes_gb is None:
        return
    (least, most), free = framework.takes_gb, shutil.disk_usage(folder).free / 1e9
    if gpu:
        least = most = max(most, least + LIBRARIES_GB)
    size = f"about {least:g} GB" if least == most else f"{least:g} to {most:g} GB, by the build that is found"
    if free < least:
        raise InputError(
            f"no room: {framework.title} takes {size}", where=str(folder), got=f"{free:.1f} GB free",
            next_step="make room, or choose another folder with --dir",
        )  # fmt: skip
    print(f"{folder}: {framework.title} will take {size}; {free:.0f} GB are free", file=sys.stderr)


def requirements(framework: Framework, wanted: Sequence[str] = (), gpu: bool = False) -> list[str]:
    """What is installed for a framework; NumPy too, which every worker needs.

    Args:
        framework: whose; an optional dependency of Face-off of its name pins what it needs, else its manifest names it.
        wanted: in place of those of the same name; what is pinned beside them is then for pip to choose.
        gpu: of the optional dependency for GPUs.

    Raises:
        InputError: one that is wanted is no requirement, or there is no build for GPUs.
    """
    listed = _pinned(f"{framework.name}-gpu" if gpu else framework.name)
    if gpu and not listed:
        raise InputError("no build for GPUs is known", where="--gpu", got=framework.name)
    listed = listed or [Requirement(name) for name in framework.distributions]
    own = []
    for text in wanted:
        try:
            own.append(Requirement(text))
        except InvalidRequirement as error:
            said = str(error).splitlines()[0]
            raise InputError(
                f"no requirement: {said}", where="--with", got=repr(text), expected="such as numpy==1.26.*"
            ) from None
    replaced = {canonicalize_name(requirement.name) for requirement in own}
    beside = [requirement for requirement in listed if canonicalize_name(requirement.name) not in replaced]
    # Beside what somebody chose, its pins may not fit any more.
    chosen = [*map(str, own), *((requirement.name if own else str(requirement)) for requirement in beside)]
    names = {canonicalize_name(requirement.name) for requirement in (*own, *listed)}
    return chosen if "numpy" in names else ["numpy", *chosen]


def _pinned(extra: str) -> list[Requirement]:
    """What an optional dependency of Face-off installs, with versions; nothing where there is none of that name."""
    found = []
    for requirement in map(Requirement, importlib.metadata.requires("faceoff") or []):
        if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
            requirement.marker = None
            found.append(requirement)
    return found


def _install(folder: Path, listed: Sequence[str], python: str, quiet: bool) -> str:
    """Makes a virtual environment with these requirements; returns its interpreter."""
    made, uv = folder.absolute() / "bin" / "python", shutil.which("uv")
    silent = ["--quiet"] if quiet else []
    if uv:
        _run([uv, "venv", *silent, "--python", python or sys.executable, str(folder)], quiet, f"make {folder}", "")
        command = [uv, "pip", "install", *silent, "--python", str(made), *listed]
    else:
        without_pip = f"install what Python's venv needs (Debian: apt-get install python{VERSION}-venv), or use uv"
        _run([_interpreter(python), "-m", "venv", str(folder)], quiet, f"make {folder}", without_pip)
        command = [str(made), "-m", "pip", "install", "--disable-pip-version-check", *silent, *listed]
    _run(command, quiet, f"install {', '.join(listed)}", f"see {'uv' if uv else 'pip'}'s message")
    return str(made)


def _interpreter(python: str) -> str:
    """A path, or what the shell finds for a version such as `3.10`. Raises InputError without one."""
    for candidate in (python, f"python{python}") if python else (sys.executable,):
        if found := shutil.which(candidate):
            return found
    raise InputError(
        "no such interpreter", where="--python", got=repr(python), expected="a path, or a version such as 3.11",
        next_step="install that Python, or uv, which does it by itself",
    )  # fmt: skip


def take_folder(source: Path, revision: str, target: Path) -> Path:
    """Writes a folder, as git has it at a revision, to `target`.

    Raises:
        InputError: the folder is in no git repository, or not in that revision.
    """
    git = shutil.which("git")
    if git is None:
        raise InputError("git is not there", where="--from", next_step="install git")
    # In a folder inside the repository it is that folder alone, with paths that begin there.
    command = [git, "-C", str(source), "archive", "--format=tar", revision]
    taken = subprocess.run(command, capture_output=True, check=False)
    if taken.returncode:
        said = taken.stderr.decode(errors="replace").strip().splitlines() or [f"status {taken.returncode}"]
        raise InputError(
            "no such state of the framework's folder", where="--from", got=f"{revision}: {said[-1]}",
            expected=f"a revision of the git repository that holds {source}",
        )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as archive:
        archive.extractall(target, filter="data")
    return target


def _run(command: list[str], quiet: bool, what: str, next_step: str) -> None:
    with scratch_folder() as scratch:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE if quiet else sys.stderr, stderr=subprocess.PIPE, text=True,
                process_group=0, env={**os.environ, "TMPDIR": str(scratch)},
            )  # fmt: skip
        except OSError as error:
            raise HarnessError(f"could not {what}", got=str(error)) from None
        try:
            out, err = process.communicate()
        except BaseException:
            # What it has started itself would go on, in a folder that is being removed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    if process.returncode:
        # What venv has to say of a missing ensurepip it prints, and with empty lines between.
        lines = [line.strip() for line in (err or out or "").splitlines() if line.strip()]
        said = " / ".join(lines[-ERROR_LINES:])
        got = said or f"status {process.returncode}"
        raise HarnessError(f"could not {what}", got=got, next_step=next_step or None)
