"""What a mode needs that no Python package brings: a compiler with its headers, and a folder whose files may execute.

Found out before a worker is started, so that what is lacking is named with the way to it, and no case crashes for it.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from faceoff.core.spec import Contender
from faceoff.frameworks.caches import cache_directory
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.system.whole_files import scratch_folder

COMPILE_LIMIT_S = 60
# By the package manager that is there: how a compiler and Python's headers are installed.
PACKAGES = {
    "apt-get": "apt-get install g++ python3-dev",
    "dnf": "dnf install gcc-c++ python3-devel",
    "apk": "apk add g++ python3-dev",
    "pacman": "pacman -S gcc python",
    "zypper": "zypper install gcc-c++ python3-devel",
}
# What is called where no variable names another.
USUAL: dict[str, dict[str, tuple[str, ...]]] = {
    "linux": {"C++": ("g++",), "C": ("gcc", "clang")},
    "darwin": {"C++": ("clang++",), "C": ("clang",)},
}
# What files include that frameworks write for these compilers.
PROGRAM = "#include <cmath>\n#include <Python.h>\nint main() { return 0; }\n"
PLAIN_PROGRAM = "#include <Python.h>\nint main(void) { return 0; }\n"


class Lack(NamedTuple):
    """What is not there, and how it can be had."""

    reason: str
    next_step: str


def find_lack(contender: Contender, device: str, python: str, versions: Mapping[str, str]) -> Lack | None:
    """What this contender lacks on a device; None when nothing.

    Args:
        contender: whose mode it is.
        device: `cpu` or `gpu`.
        python: the interpreter of its framework.
        versions: of the framework, on which the folder of compiled code depends.
    """
    mode = FRAMEWORKS[contender.framework].modes.get(contender.mode)
    language = mode.compilers.get(device) if mode else None
    if language is None:
        return None
    lack = find_compiler_lack(language, python) or find_folder_lack(versions)
    return lack or (find_space(python) if language == "C++" else None)


@functools.cache
def find_compiler_lack(language: str, python: str) -> Lack | None:
    """Whether a program compiles that includes the interpreter's headers; `language` is `C` or `C++`."""
    variable = "CXX" if language == "C++" else "CC"
    usual = USUAL["darwin" if sys.platform == "darwin" else "linux"][language]
    compiler = os.environ.get(variable) or next(filter(shutil.which, usual), usual[0])
    command = shlex.split(compiler)
    step = f"{_install()}, or name one by {variable}"
    if not command or shutil.which(command[0]) is None:
        return Lack(f"no {language} compiler: there is no `{compiler}`", step)
    ending = "cpp" if language == "C++" else "c"
    with scratch_folder() as folder:
        source = folder / f"try.{ending}"
        source.write_text(PROGRAM if language == "C++" else PLAIN_PROGRAM)
        try:
            tried = subprocess.run(
                [*command, *_headers(python), "-fsyntax-only", str(source)],
                capture_output=True, text=True, errors="replace", timeout=COMPILE_LIMIT_S,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return Lack(f"the {language} compiler `{compiler}` cannot be run: {error}", step)
    if tried.returncode:
        said = next((line for line in tried.stderr.splitlines() if "error" in line), f"status {tried.returncode}")
        said = said.replace(str(source), source.name)
        return Lack(f"the {language} compiler `{compiler}` does not compile a program of two lines: {said}", step)
    return None


def _headers(python: str) -> list[str]:
    """The option that names an interpreter's headers; none where it does not say."""
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    try:
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=COMPILE_LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"-I{told.stdout.strip()}"] if told.stdout.strip() else []


def _install() -> str:
    found = [command for manager, command in PACKAGES.items() if shutil.which(manager)]
    return f"install one: {found[0]}" if found else "install a compiler"


def find_folder_lack(versions: Mapping[str, str]) -> Lack | None:
    """Whether libraries may be loaded from where compiled code is kept."""
    try:
        folder = cache_directory(versions)
    except OSError:
        # Then it is a temporary one.
        folder = Path(tempfile.gettempdir())
    if may_execute(folder):
        return None
    step = "name another by XDG_CACHE_HOME (or TMPDIR where there is no home), on a file system without noexec"
    return Lack(f"nothing may be executed in {folder}, where its compiled code would be", step)


def find_space(python: str) -> Lack | None:
    """Whether there is a space in a path that is given to the C++ compiler, which is done without quotes."""
    places = (
        (tempfile.gettempdir(), "name another folder by TMPDIR"),
        (str(Path(python).parent.parent), "make the environment, and the project in whose folder it lies, elsewhere"),
    )
    for path, step in places:
        if re.search(r"\s", path):
            return Lack(f"a space in the path {path}, which its compiler cannot bear", step)
    return None


def may_execute(folder: Path) -> bool:
    """Whether the file system of a folder lets files there be executed."""
    return sys.platform != "linux" or not os.statvfs(folder).f_flag & os.ST_NOEXEC
