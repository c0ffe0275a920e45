"""What is installed for an interpreter, from package metadata alone; runs as a script under other interpreters too."""

import importlib.util
import json
import os
import re
import sys
from typing import Any, Dict, List, Optional, Sequence, Set

try:
    import importlib.metadata as metadata
except ImportError:  # before Python 3.8
    import importlib_metadata as metadata  # type: ignore[import-not-found, no-redef]

EXTRAS_FOR_GPUS = ("and-cuda", "cuda", "cuda12", "cuda13", "with-cuda")


def find_versions(distributions: Sequence[str]) -> Dict[str, str]:
    """Distribution name to version, of those that are installed."""
    versions = {}
    for name in distributions:
        found = _find(name)
        if found is not None:
            versions[name] = found.version
    return versions


def disk_bytes(distributions: Sequence[str]) -> int:
    """Size of the files of these distributions and of all that they require, each counted once, in bytes."""
    seen: Set[str] = set()
    waiting, total = list(distributions), 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        found = _find(name)
        if found is None:
            continue
        total += sum(_size(path) for path in found.files or ())
        waiting += _required(found.requires or ())
    return total


def look_up(module: str, distributions: Sequence[str]) -> Dict[str, Any]:
    """Whether `module` can be imported, and which of the distributions are there in which versions."""
    spec = importlib.util.find_spec(module)
    # Any folder of that name would do for a package without files of its own.
    found = spec is not None and spec.origin not in (None, "namespace")
    return {"found": found, "versions": find_versions(distributions)}


def list_all() -> Dict[str, str]:
    """Every distribution that is installed, with its version, by its name in lower case with dashes."""
    found = {}
    for distribution in metadata.distributions():
        # What was removed by halves has metadata without a name.
        name = distribution.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = str(distribution.version)
    return {name: found[name] for name in sorted(found)}


def _find(name: str) -> "Optional[metadata.Distribution]":
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _required(requirements: Sequence[str]) -> List[str]:
    """Names of what is required by itself or for a GPU; what is not installed does not count anyway.

    CUDA's libraries are required by an extra of some frameworks, and without one by others.
    """
    names = []
    for requirement in requirements:
        text, _, marker = requirement.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)", text)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]*)", marker)
        if match and (extra is None or extra.group(1) in EXTRAS_FOR_GPUS):
            names.append(match.group(1))
    return names


def _size(path: "metadata.PackagePath") -> int:
    if path.size is not None:
        return path.size
    try:
        return os.stat(path.locate()).st_size
    except OSError:
        return 0  # Listed, but not there: byte code that was never written.


def answer(what: str, module: str, distributions: Sequence[str]) -> Any:
    """What the function of this name finds: `look_up`, `disk_bytes` or `list_all`."""
    if what == "list_all":
        return list_all()
    return look_up(module, distributions) if what == "look_up" else disk_bytes(distributions)


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1], sys.argv[2], sys.argv[3:])))
