"""Fetches, for another machine that reaches no package index, the wheels that it lacks; says how large all is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from faceoff.frameworks.registry import FRAMEWORKS
from tests.calibration.on_a_gpu.carried import PREPARED, WHEELS, NotPreparedError
from tests.calibration.on_a_gpu.packing import MIB

ROOT = Path(__file__).resolve().parents[3]
# pip takes a platform by its letter alone, and wheels name the oldest library that they run with.
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)
OLDER_NAMES = ("manylinux2014", "manylinux2010", "manylinux1")
# Optional dependencies that are no framework by themselves.
OF_DEVELOPERS = "dev"


def prepare(python: str, folder: Path, there: Collection[str], also: Collection[str], limit_bytes: int) -> str:
    """Fills `folder` with the wheels of all that the project requires, for another machine.

    Args:
        python: its version there, such as 3.12.
        folder: made if need be; what was prepared there before is replaced.
        there: what the other machine has, beside frameworks and what only these require.
        also: of the frameworks' packages, by name, those that it lacks.
        limit_bytes: that the folder and the project's own files may take together.

    Returns:
        What was fetched and how large it is, in words.

    Raises:
        NotPreparedError: a package has no such wheel, a name is not known, or all is too large.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = requirements(project, also)
    left_out = {canonicalize_name(name) for name in (*there, *framework_packages())} - set(map(canonicalize_name, also))
    carried = closure(wanted, resolve(wanted, python), left_out)
    shutil.rmtree(folder / WHEELS, ignore_errors=True)
    (folder / WHEELS).mkdir(parents=True)
    _pip("download", python, "--no-deps", "--dest", str(folder / WHEELS), *carried)
    # Of what belongs to the frameworks, the version that they came with there is the right one.
    told = {
        "python": python,
        "project": {"name": project["name"], "version": project["version"]},
        "requirements": [*project["dependencies"], *also],
    }
    (folder / PREPARED).write_text(json.dumps(told, indent=1) + "\n")
    return f"{len(carried)} wheels for Python {python}: {weigh(folder, project_files(folder), limit_bytes)}"


def weigh(folder: Path, beside: Iterable[Path], limit_bytes: int) -> str:
    """How large a folder is, and the files that go with it, in words. Raises NotPreparedError above the limit."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    own = sum(path.stat().st_size for path in beside)
    text = (
        f"{folder} {sum(sizes.values()) / MIB:.1f} MiB, the project's files {own / MIB:.1f} MiB, "
        f"limit {limit_bytes / MIB:g} MiB"
    )
    if sum(sizes.values()) + own > limit_bytes:
        largest = sorted(sizes, key=lambda path: -sizes[path])[:3]
        names = ", ".join(f"{path.name} ({sizes[path] / MIB:.1f} MiB)" for path in largest)
        raise NotPreparedError(f"{text}: too large; the largest are {names}; leave out by --there what is there")
    return text


def requirements(project: dict[str, Any], also: Iterable[str]) -> list[str]:
    """What the project requires, and `also` of what its frameworks do.

    Raises:
        NotPreparedError: no framework has a package of that name.
    """
    optional = [
        Requirement(text)
        for extra, texts in project["optional-dependencies"].items()
        if extra != OF_DEVELOPERS
        for text in texts
    ]
    by_name = {str(canonicalize_name(requirement.name)): str(requirement) for requirement in optional}
    by_name.pop(project["name"], None)
    if unknown := [name for name in also if canonicalize_name(name) not in by_name]:
        raise NotPreparedError(f"--also: got {', '.join(unknown)}, expected some of {', '.join(sorted(by_name))}")
    return [*project["dependencies"], *(by_name[canonicalize_name(name)] for name in also)]


def framework_packages() -> set[str]:
    """The names of all that the frameworks' manifests name."""
    return {name for framework in FRAMEWORKS.values() for name in (*framework.distributions, *framework.needs)}


def resolve(wanted: Sequence[str], python: str) -> dict[str, dict[str, Any]]:
    """What pip would install for these there: metadata by name; nothing is fetched."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        asked = ("--dry-run", "--ignore-installed", "--target", scratch, "--report", str(report))
        _pip("install", python, *asked, *wanted)
        items = json.loads(report.read_text())["install"]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] for item in items}


def closure(wanted: Iterable[str], resolved: dict[str, dict[str, Any]], left_out: Collection[str]) -> list[str]:
    """`name==version` of these and all that they need, but for `left_out` and what only that needs."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        # What a marker leaves out there, pip has not resolved.
        if name in found or name in left_out or name not in resolved:
            continue
        metadata = resolved[name]
        found[name] = f"{name}=={metadata['version']}"
        extras = requirement.extras or {""}
        for needed in map(Requirement, metadata.get("requires_dist", ())):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return sorted(found.values())


def project_files(but: Path) -> list[Path]:
    """All files that git knows or does not ignore, which go to the other machine too; none outside a repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and but.resolve() not in path.parents]


def _pip(command: str, python: str, *arguments: str) -> None:
    """Runs pip for the other machine's Python. Raises NotPreparedError with the end of what it says."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + [f"{name}_x86_64" for name in OLDER_NAMES]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    target += [word for platform in platforms for word in ("--platform", platform)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *target, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotPreparedError(f"pip {command} for Python {python}: {'; '.join(lines[-2:]) or done.stderr.strip()}")
