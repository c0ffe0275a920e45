"""The packages that a machine lacks, from wheels that were carried there; an installer is not needed.

What the machine has is kept wherever it satisfies what is asked, so that frameworks find the versions they came with.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any

PREPARED = "prepared.json"
WHEELS = "wheels"
# Of the folders of a wheel's data, those that lie beside its modules once it is installed.
BESIDE = ("purelib", "platlib")


class NotPreparedError(Exception):
    """A folder that cannot be used here, with what to do about it."""


def make_importable(folder: Path, site: Path) -> tuple[list[str], list[str]]:
    """Unpacks the wheels of `folder` that this interpreter needs, and all that they need, into `site`.

    Args:
        folder: that `prepare` has filled.
        site: a folder to be put into `PYTHONPATH`, made if need be.

    Returns:
        What was unpacked, as `name version`; and what neither the machine nor the folder has, as requirements.

    Raises:
        NotPreparedError: no such folder, one for another Python, or one that is not whole.
    """
    prepared = _read(folder)
    wheels = {_canonical(path.name.split("-")[0]): path for path in sorted((folder / WHEELS).glob("*.whl"))}
    if "packaging" not in wheels:
        raise NotPreparedError(f"{folder / WHEELS}: the wheel of packaging is missing; copy the whole folder again")
    own_paths = list(sys.path)
    # It reads requirements, and is imported as it lies.
    sys.path.append(str(wheels["packaging"]))
    from packaging.requirements import Requirement

    _introduce(prepared["project"], site)
    unpacked: dict[str, str] = {}
    lacking: list[str] = []
    waiting = [Requirement(text) for text in prepared["requirements"]]
    while waiting:
        requirement = waiting.pop(0)
        name = _canonical(requirement.name)
        extras = requirement.extras or {""}
        if name in unpacked or _is_there(requirement, own_paths):
            continue
        if name not in wheels:
            lacking.append(str(requirement))
            continue
        metadata = _unpack(wheels[name], site)
        unpacked[name] = metadata["Version"]
        for text in metadata.get_all("Requires-Dist") or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return [f"{name} {version}" for name, version in unpacked.items()], lacking


def _read(folder: Path) -> dict[str, Any]:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        prepared: dict[str, Any] = json.loads((folder / PREPARED).read_text())
    except (OSError, ValueError) as error:
        raise NotPreparedError(f"{folder}: not prepared ({error}); make it by `prepare --folder {folder}`") from None
    if prepared["python"] != here:
        raise NotPreparedError(
            f"{folder}: prepared for Python {prepared['python']}, and this is {here} ({sys.executable}); "
            f"use that one, or `prepare --python {here}`"
        )
    return prepared


def _introduce(project: dict[str, str], site: Path) -> None:
    """Tells name and version of the project, which is run from its files, to whoever asks for what is installed."""
    information = site / f"{_canonical(project['name']).replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    lines = ("Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}")
    (information / "METADATA").write_text("\n".join(lines) + "\n")


def _is_there(requirement: Any, paths: list[str]) -> bool:
    """Whether the interpreter has a version that will do."""
    found = importlib.metadata.Distribution.discover(name=requirement.name, path=paths)
    return any(requirement.specifier.contains(one.version, prereleases=True) for one in found)


def _unpack(wheel: Path, site: Path) -> Any:
    """Writes the modules of a wheel into `site`; returns its metadata."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            metadata = None
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if path.parts[0].endswith(".data"):
                    if path.parts[1] not in BESIDE:
                        continue
                    entry.filename = str(PurePosixPath(*path.parts[2:]))
                if path.match("*.dist-info/METADATA"):
                    metadata = HeaderParser().parsestr(archive.read(entry).decode())
                if not entry.is_dir():
                    archive.extract(entry, site)
    except zipfile.BadZipFile as error:
        raise NotPreparedError(f"{wheel}: damaged ({error}); copy the whole folder again") from None
    if metadata is None:
        raise NotPreparedError(f"{wheel}: no metadata; fetch it again by `prepare`")
    return metadata


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
