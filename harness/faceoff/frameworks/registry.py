"""Which frameworks there are: those of the project, of installed packages, and those that `faceoff.toml` names.

Each is a folder with a manifest (`faceoff.frameworks.manifest`). One whose manifest cannot be used stops no other.
`faceoff.toml` may name environments of a framework too (`[environments."NAME@ENVIRONMENT"]`): another interpreter with
other versions, another state of the folder, or both. Each is an entry of its own beside its framework.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from faceoff.core.errors import InputError
from faceoff.core.spec import AT
from faceoff.frameworks.manifest import FILE, Framework, read_manifest

PACKAGE = Path(__file__).resolve().parents[1]
# An installed package has the project's frameworks inside; in the project itself they lie at its top.
OURS = next((inside for inside in [PACKAGE / "impls"] if inside.is_dir()), PACKAGE.parents[1] / "impls")
GROUP = "faceoff.frameworks"
CONFIG_FILE = "faceoff.toml"


class Registry(Mapping[str, Framework]):
    """The frameworks and their environments by label, found when the first is asked for.

    Attributes:
        broken: why a framework or an environment that is named somewhere cannot be used, by label.
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
    def usual(self) -> tuple[str, ...]:
        """Who takes part without being named: no further environment, and nobody on request."""
        return tuple(label for label, f in self._all().items() if not (f.environment or f.on_request))

    @property
    def with_those_on_request(self) -> tuple[str, ...]:
        """The same, and the frameworks that take part on request."""
        return tuple(label for label, framework in self._all().items() if not framework.environment)

    @property
    def broken(self) -> dict[str, InputError]:
        self._all()
        return self._broken

    def add(self, label: str, where: str) -> None:
        """Takes `NAME@ENVIRONMENT` for NAME as it is, unless there is an environment of that name.

        Raises:
            InputError: it is no such name, or there is no NAME that can be used.
        """
        name, environment = split_label(label, where)
        framework = require_framework(name, where)
        if environment and label not in self._all():
            self._all()[label] = framework.model_copy(update={"environment": environment})

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
            for label, told in _told("environments").items():
                try:
                    found[label] = _environment(label, told, found)
                except InputError as error:
                    self._broken[label] = error
            ordered = sorted(found.values(), key=lambda f: (f.place, f.name, f.environment))
            self._found = {framework.label: framework for framework in ordered}
        return self._found


FRAMEWORKS = Registry()


def require_framework(name: str, where: str) -> Framework:
    """The framework of this name. Raises InputError if there is none, or it cannot be used."""
    if name in FRAMEWORKS:
        return FRAMEWORKS[name]
    if name in FRAMEWORKS.broken:
        raise FRAMEWORKS.broken[name]
    base, at, _ = name.partition(AT)
    if at and base in FRAMEWORKS:
        raise InputError(
            f"{base} has no such environment", where=where, got=repr(name),
            expected=one_of(label for label in FRAMEWORKS if FRAMEWORKS[label].name == base),
            next_step=f"make it: faceoff env create {name} --with ..., or see `faceoff env list`",
        )  # fmt: skip
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
    for name, place in _told("frameworks").items():
        if isinstance(place.get("path"), str):
            yield name, _beside(place["path"]), f"{CONFIG_FILE}: frameworks.{name}"


def _told(table: str) -> dict[str, dict[str, Any]]:
    """A table of tables of `faceoff.toml`; what is wrong with the file is said by whoever needs it."""
    try:
        told = tomllib.loads(Path(CONFIG_FILE).read_text(encoding="utf-8-sig")).get(table, {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, dict)} if isinstance(told, dict) else {}


def _beside(text: str) -> Path:
    """A path of `faceoff.toml`, which begins where the file lies unless it is absolute."""
    return Path(CONFIG_FILE).absolute().parent / Path(text).expanduser()


def _environment(label: str, told: Mapping[str, Any], found: Mapping[str, Framework]) -> Framework:
    """An environment of a framework. Raises InputError if its name, its framework or its folder cannot be used."""
    where = f'{CONFIG_FILE}: environments."{label}"'
    name, environment = split_label(label, where)
    if not environment or name not in found:
        expected = f"NAME{AT}ENVIRONMENT, with NAME {one_of(found)}"
        raise InputError("not an environment of a framework", where=where, got=repr(label), expected=expected)
    framework = found[name]
    if isinstance(path := told.get("path"), str):
        framework = read_manifest(_beside(path))
        _require_name(name, framework, {}, where)
    # Not resolved, or it would be the interpreter that the environment was made from.
    python = str(_beside(str(told["python"]))) if told.get("python") else ""
    return framework.model_copy(update={"environment": environment, "python": python})


def split_label(label: str, where: str) -> tuple[str, str]:
    """`NAME@ENVIRONMENT` as its two parts, the second empty without an `@`. Raises InputError on an odd one."""
    name, at, environment = label.partition(AT)
    if at and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", environment):
        expected = "letters, digits, dots, dashes and underscores, such as old or 2.12"
        raise InputError("no name for an environment", where=where, got=repr(label), expected=expected)
    return name, environment


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
