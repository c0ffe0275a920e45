"""Which frameworks there are: those of the project, of installed packages, and those that `faceoff.toml` names.

Each is a folder with a manifest (`harness.frameworks.manifest`). One whose manifest cannot be used stops no other.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.core.errors import InputError
from harness.frameworks.manifest import FILE, Framework, read_manifest

OURS = Path(__file__).resolve().parents[2] / "impls"
GROUP = "faceoff.frameworks"
CONFIG_FILE = "faceoff.toml"


class Registry(Mapping[str, Framework]):
    """The frameworks by name, found when the first is asked for.

    Attributes:
        broken: why a framework that is named somewhere cannot be used, by name.
    """

    def __init__(self) -> None:
        self._found: dict[str, Framework] | None = None
        self._broken: dict[str, InputError] = {}

    def __getitem__(self, name: str) -> Framework:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    @property
    def broken(self) -> dict[str, InputError]:
        self._all()
        return self._broken

    def forget(self) -> None:
        """Looks again when next asked: another working folder may name others."""
        self._found, self._broken = None, {}

    def _all(self) -> dict[str, Framework]:
        if self._found is None:
            found: dict[str, Framework] = {}
            for name, folder, where in _places():
                try:
                    framework = read_manifest(folder)
                    _require_name(name, framework, found, where)
                except InputError as error:
                    self._broken[name] = error
                else:
                    found[framework.name] = framework
            ordered = sorted(found.values(), key=lambda framework: (framework.place, framework.name))
            self._found = {framework.name: framework for framework in ordered}
        return self._found


FRAMEWORKS = Registry()


def require_framework(name: str, where: str) -> Framework:
    """The framework of this name. Raises InputError if there is none, or it cannot be used."""
    if name in FRAMEWORKS:
        return FRAMEWORKS[name]
    if name in FRAMEWORKS.broken:
        raise FRAMEWORKS.broken[name]
    raise InputError("unknown framework", where=where, got=repr(name), expected=one_of(FRAMEWORKS))


def hidden_modules(name: str) -> list[str]:
    """The top-level modules of other frameworks that a framework's worker must not import."""
    own = FRAMEWORKS[name]
    others = {framework.module for framework in FRAMEWORKS.values()}
    # A worker needs NumPy itself.
    return sorted(others - {own.module, *own.needs, "numpy"})


def one_of(names: Iterable[str]) -> str:
    """`one of a, b`."""
    return "one of " + ", ".join(names)


def _places() -> Iterator[tuple[str, Path, str]]:
    """Name, folder and who says so: the project's folders, then installed packages', then `faceoff.toml`'s."""
    for manifest in sorted(OURS.glob(f"*/{FILE}")):
        yield manifest.parent.name, manifest.parent, str(manifest)
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(point.value)
        except (ImportError, ValueError):
            spec = None
        folders = list(spec.submodule_search_locations or ()) if spec else []
        yield point.name, Path(folders[0] if folders else point.value), f"entry point {GROUP}: {point.name}"
    path = Path(CONFIG_FILE)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("frameworks", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return  # Nothing is named, or whoever needs the file says what is wrong with it.
    for name, place in told.items() if isinstance(told, dict) else ():
        if isinstance(place, dict) and isinstance(place.get("path"), str):
            yield name, (path.absolute().parent / Path(place["path"]).expanduser()), f"{CONFIG_FILE}: frameworks.{name}"


def _require_name(name: str, framework: Framework, found: Mapping[str, Framework], where: str) -> None:
    if framework.name != name:
        raise InputError(
            "the folder is another framework's", where=where, got=repr(framework.name), expected=repr(name),
            next_step=f"name it `{framework.name}`, or name another folder",
        )  # fmt: skip
    if name in found:
        raise InputError(
            "two frameworks of one name", where=where, got=f"{framework.folder} beside {found[name].folder}",
            next_step="give one of them another name",
        )  # fmt: skip
