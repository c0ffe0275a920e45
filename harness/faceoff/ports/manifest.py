"""What a user writes of a model, in `port.toml`: read and checked without importing anything."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faceoff.core.errors import InputError
from faceoff.core.own import LOSSES, OWN_LOSS, Input, Targets
from faceoff.core.spec import AT
from faceoff.core.weights import STATES
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.system.texts import require_utf8

FILE = "port.toml"
Size = Annotated[int, Field(ge=1)]
Axes = tuple[Annotated[int, Field(ge=0)], ...]
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# What each key may be, for the error's line.
_EXPECTED = {
    "name": "letters, digits, - and _",
    "reference": "the name of one of [sides.NAME]",
    "loss": "one of " + ", ".join(LOSSES),
    "class_axis": "a whole number, the axis of the outputs that holds the classes",
    "output": 'the name of one of several outputs, as in output = "logits", or its number, as in output = "0"',
    "inputs": "[inputs.NAME] with a shape",
    "targets": "[targets] with shape, classes, scale and ignored",
    "sides": "[sides.FRAMEWORK] with file, inputs and weights",
    "weights": 'regular expression = { to = "name", axes = [1, 0] }',
    "shape": "sizes of at least 1, as in [3, 32, 32]",
    "dtype": "float or int64",
    "below": "a whole number of at least 1",
    "classes": "a whole number",
    "ignored": "a whole number that is no class, as in ignored = -100",
    "scale": "a number above 0",
    "file": "a Python file, relative to the manifest's folder",
    "axes": "a permutation of axes, as in [1, 0]",
    "to": 'a canonical name, or several in their order, as in ["a.query.weight", "a.key.weight"]',
    "along": "an axis of the side's array",
    "zero": "true or false",
    "dropout": "true or false",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputTable(_Part):
    """One `[inputs.NAME]`; see `faceoff.core.own.Input`."""

    shape: Annotated[tuple[Size, ...], Field(strict=False)]
    dtype: Literal["float", "int64"] = "float"
    below: Size | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class TargetsTable(_Part):
    """`[targets]`; see `faceoff.core.own.Targets`."""

    shape: Annotated[tuple[Size, ...], Field(strict=False)] = ()
    classes: Annotated[int, Field(ge=0)] | None = None
    ignored: int | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Rule(_Part):
    """Which canonical weight a side's is; every operation can be undone.

    Attributes:
        to: the canonical name, with groups of the regular expression as `\\\\1`; several, if the side's array holds as
            many equal parts one after the other, in the side's order: packed projections, gates.
        along: the axis of the side's array along which these parts lie.
        axes: the permutation of the canonical axes that makes the side's.
        shape: on the reference's side, the canonical shape, if it is not that of the side: the weight behind a
            flattened image has one axis more for every axis of the image, so that others can permute these.
        zero: this one belongs to no canonical weight: it is zero, and stays so, untrained.
    """

    to: str | Annotated[tuple[str, ...], Field(strict=False, min_length=2)] = ""
    along: Annotated[int, Field(ge=0)] = 0
    axes: Annotated[Axes, Field(strict=False)] | None = None
    shape: Annotated[tuple[Size, ...], Field(strict=False)] | None = None
    zero: bool = False


class SideTable(_Part):
    """One `[sides.FRAMEWORK]`, or `[sides."FRAMEWORK@NAME"]` where a framework has several.

    Attributes:
        file: relative to the manifest's folder; the framework's name, or the name after `@`, and `_model.py` unless it
            says so, as a file that is called like a package would hide it.
        inputs: the permutation of axes, the batch's included, in which the side takes an input.
        weights: rules by regular expressions that match a whole path.
        layers: the reference's layers and this side's that are the same, by path; an empty path means none.
    """

    file: str = ""
    inputs: dict[str, Annotated[Axes, Field(strict=False)]] = {}
    weights: dict[str, Rule] = {}
    layers: dict[str, str] = {}


class PortManifest(_Part):
    """A user's model as its manifest has it; `path` and `folder` are where that lies.

    With `dropout`, training leaves elements out, all sides by the same masks (`faceoff.ports.dropout`).
    """

    name: str = ""
    reference: str = ""
    loss: Literal["cross-entropy", "squared-error", "binary-cross-entropy", "own"]
    class_axis: int = -1
    output: str = ""
    dropout: bool = False
    inputs: Annotated[dict[str, InputTable], Field(min_length=1)]
    targets: TargetsTable = TargetsTable()
    sides: Annotated[dict[str, SideTable], Field(min_length=1)]
    path: Annotated[Path, Field(exclude=True)] = Path()

    @property
    def folder(self) -> Path:
        """Where the sides' files begin."""
        return self.path.parent

    def file_of(self, framework: str) -> Path:
        """A side's Python file, absolute."""
        name = framework.partition(AT)[2] or framework
        return (self.folder / (self.sides[framework].file or f"{name}_model.py")).resolve()

    def inputs_of_port(self) -> tuple[Input, ...]:
        """As a `Port` has them."""
        return tuple(
            Input(name, table.shape, table.dtype, table.below or 0, table.scale or 1.0)
            for name, table in self.inputs.items()
        )

    def targets_of_port(self) -> Targets:
        """As a `Port` has them."""
        classes = 2 if self.loss == "binary-cross-entropy" else self.targets.classes or 0
        return Targets(self.targets.shape, classes, self.targets.scale or 1.0, self.targets.ignored)


def read_port(path: Path) -> PortManifest:
    """What is written of a model, in a folder with `port.toml` or in one `.toml` file.

    Raises:
        InputError: it cannot be read, or says what cannot be.
    """
    # Frameworks are given the path that links lead to.
    require_utf8(path.resolve(), "models")
    file = _file_of(path)
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(
            "cannot be read", where=str(file), got=said, expected="the manifest of a model, a TOML file",
            next_step="mend it",
        ) from None  # fmt: skip
    if "path" in told:
        raise _unknown(f"{file}: path", "path", PortManifest)
    try:
        manifest = PortManifest.model_validate({**told, "path": file.resolve()})
    except ValidationError as error:
        raise _told(file, error) from None
    manifest = _with_names(manifest, file)
    _check_inputs(manifest, file)
    _check_targets(manifest, file)
    for framework in manifest.sides:
        _check_side(manifest, framework, file)
    _check_reference(manifest, file)
    return manifest


def _file_of(path: Path) -> Path:
    if path.suffix == ".toml" and not path.is_dir():
        return path
    if not path.is_dir():
        raise InputError(
            "no such folder", where=str(path), expected=f"a folder with {FILE}, or a .toml file",
            next_step="name the model's folder",
        )  # fmt: skip
    if not (path / FILE).is_file():
        raise InputError("no manifest in this folder", where=str(path), expected=FILE, next_step=f"write {FILE} there")
    return path / FILE


def _told(file: Path, error: ValidationError) -> InputError:
    """The first fault that was found, in one line."""
    first = error.errors()[0]
    # Names of alternatives of a union and positions in lists say nothing to a reader.
    union = ("str", "constrained", "tuple", "function")
    parts = [str(part) for part in first["loc"] if not (isinstance(part, str) and part.startswith(union))]
    where = f"{file}: {'.'.join(parts)}"
    keys = [part for part in parts if part in _EXPECTED]
    if first["type"] == "extra_forbidden":
        return _unknown(where, parts[-1], _table_of(parts[:-1]))
    expected = _EXPECTED.get(keys[-1]) if keys else None
    if first["type"] == "missing":
        return InputError("key missing", where=where, expected=expected, next_step="write it")
    what = first["msg"][:1].lower() + first["msg"][1:]
    return InputError(what, where=where, got=repr(first["input"])[:80], expected=expected, next_step="mend it")


def _unknown(where: str, key: str, table: type[BaseModel]) -> InputError:
    known = ", ".join(name for name in table.model_fields if name != "path")
    return InputError("unknown key", where=where, got=repr(key), expected=f"some of {known}", next_step="remove it")


def _table_of(parts: list[str]) -> type[BaseModel]:
    if not parts:
        return PortManifest
    if parts[0] == "sides":
        return Rule if len(parts) > 2 else SideTable
    return InputTable if parts[0] == "inputs" else TargetsTable


def _with_names(manifest: PortManifest, file: Path) -> PortManifest:
    """The manifest with its name and its reference, told or not."""
    resolved = file.resolve()
    name = manifest.name or (resolved.parent.name if resolved.name == FILE else resolved.stem)
    if not _NAME.fullmatch(name):
        raise InputError(
            "not a name", where=f"{file}: name", got=repr(name), expected=_EXPECTED["name"],
            next_step='write another, as in name = "my-model"',
        )  # fmt: skip
    reference = manifest.reference or next(iter(manifest.sides))
    if reference not in manifest.sides:
        raise InputError(
            "no such side", where=f"{file}: reference", got=repr(reference),
            expected="one of " + ", ".join(manifest.sides), next_step="name one of the sides",
        )  # fmt: skip
    return manifest.model_copy(update={"name": name, "reference": reference})


def _check_reference(manifest: PortManifest, file: Path) -> None:
    """Raises InputError where no rounding noise would be known, without which nothing can be judged."""
    reference = FRAMEWORKS[manifest.reference]
    if reference.can.noise:
        return
    able = [name for name in manifest.sides if FRAMEWORKS[name].can.noise]
    titles = [framework.title for framework in FRAMEWORKS.values() if framework.can.noise]
    raise InputError(
        "not offered: a reference side must be one whose rounding noise can be measured", where=f"{file}: reference",
        got=f"{manifest.reference!r}", expected="a side in " + " or ".join(dict.fromkeys(titles)),
        next_step=f'write reference = "{able[0]}"' if able else "add such a side",
    )  # fmt: skip


def _check_inputs(manifest: PortManifest, file: Path) -> None:
    for name, table in manifest.inputs.items():
        where = f"{file}: inputs.{name}"
        if name in STATES:
            raise InputError(
                "this name belongs to the built-in recurrent models", where=where, got=repr(name),
                expected="another name", next_step="rename the input",
            )  # fmt: skip
        if table.dtype == "int64" and table.below is None:
            raise InputError(
                "whole numbers without a bound", where=f"{where}.below", expected=_EXPECTED["below"],
                next_step="write how many there are, as in below = 1000",
            )  # fmt: skip
        if table.dtype == "int64" and table.scale is not None:
            raise _no_part(f"{where}.scale", table.scale, "no scale for whole numbers")
        if table.dtype == "float" and table.below is not None:
            raise _no_part(f"{where}.below", table.below, 'no bound, or dtype = "int64"')


def _no_part(where: str, got: object, expected: str) -> InputError:
    return InputError("has no meaning here", where=where, got=got, expected=expected, next_step="remove it")


def _check_targets(manifest: PortManifest, file: Path) -> None:
    targets, where = manifest.targets, f"{file}: targets"
    if manifest.loss == "cross-entropy" and (targets.classes or 0) < 2:
        raise InputError(
            "a cross-entropy without classes", where=f"{where}.classes", got=targets.classes,
            expected="a whole number of at least 2", next_step="write how many there are, as in classes = 10",
        )  # fmt: skip
    if manifest.loss == "squared-error" and targets.classes:
        raise _no_part(f"{where}.classes", targets.classes, 'numbers, or loss = "cross-entropy"')
    if manifest.loss == "binary-cross-entropy" and targets.classes not in (None, 2):
        raise _no_part(f"{where}.classes", targets.classes, "2, or nothing")
    of_numbers = manifest.loss == "squared-error" or (manifest.loss == OWN_LOSS and not targets.classes)
    if not of_numbers and targets.scale is not None:
        raise _no_part(f"{where}.scale", targets.scale, "no scale for classes")
    if manifest.loss != "cross-entropy" and "class_axis" in manifest.model_fields_set:
        raise _no_part(f"{file}: class_axis", manifest.class_axis, "it with a cross-entropy alone")
    if manifest.loss == OWN_LOSS and manifest.output:
        raise _no_part(f"{file}: output", manifest.output, "it with another loss: a loss of your own takes all outputs")
    if targets.ignored is None:
        return
    if of_numbers or manifest.loss == "binary-cross-entropy":
        raise _no_part(f"{where}.ignored", targets.ignored, 'it with class numbers: loss = "cross-entropy" or "own"')
    if 0 <= targets.ignored < (targets.classes or 0):
        raise InputError(
            "a class that is ignored", where=f"{where}.ignored", got=targets.ignored, expected=_EXPECTED["ignored"],
            next_step="name a number that is no class",
        )  # fmt: skip


def _check_side(manifest: PortManifest, framework: str, file: Path) -> None:
    where = f"{file}: sides.{framework}"
    if framework in FRAMEWORKS.broken:
        raise FRAMEWORKS.broken[framework]
    FRAMEWORKS.add(framework, where)
    if not manifest.file_of(framework).is_file():
        raise InputError(
            "no such file", where=f"{where}.file", got=str(manifest.file_of(framework)), expected=_EXPECTED["file"],
            next_step='write it, with a function build() that returns the model, or name it, as in file = "model.py"',
        )  # fmt: skip
    side = manifest.sides[framework]
    for name, axes in side.inputs.items():
        if name not in manifest.inputs:
            raise InputError(
                "no such input", where=f"{where}.inputs", got=repr(name),
                expected="one of " + ", ".join(manifest.inputs), next_step="mend the name",
            )  # fmt: skip
        count = len(manifest.inputs[name].shape) + 1
        if sorted(axes) != list(range(count)):
            raise InputError(
                "not a permutation of the input's axes", where=f"{where}.inputs.{name}", got=list(axes),
                expected=f"0 to {count - 1}, each once; 0 is the batch's", next_step="mend it",
            )  # fmt: skip
    for pattern, rule in side.weights.items():
        _check_rule(pattern, rule, f"{where}.weights.{pattern!r}", framework == manifest.reference)


def _check_rule(pattern: str, rule: Rule, where: str, of_reference: bool) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise InputError(
            "not a regular expression", where=where, got=str(error), expected="one that matches whole paths",
            next_step="mend it",
        ) from None  # fmt: skip
    for name in (rule.to,) if isinstance(rule.to, str) else rule.to:
        if any(int(number) > groups for number in re.findall(r"\\(\d)", name)):
            raise InputError(
                "a group that is not there", where=f"{where}.to", got=name, expected=f"up to {groups}",
                next_step="put parentheses around a part of the regular expression",
            )  # fmt: skip
    if rule.axes is not None and sorted(rule.axes) != list(range(len(rule.axes))):
        raise InputError(
            "not a permutation", where=f"{where}.axes", got=list(rule.axes), expected=_EXPECTED["axes"],
            next_step="mend it",
        )  # fmt: skip
    if rule.shape is not None and not of_reference:
        raise InputError(
            "canonical shapes are the reference's", where=f"{where}.shape", got=list(rule.shape),
            expected="it on the reference's side alone", next_step="move it there, and give axes here",
        )  # fmt: skip
    if rule.shape is not None and rule.axes is not None and len(rule.shape) != len(rule.axes):
        raise InputError(
            "not as many axes as sizes", where=where, got=f"axes {list(rule.axes)}, shape {list(rule.shape)}",
            expected="as many of each", next_step="mend one",
        )  # fmt: skip
    told = rule.model_fields_set - {"zero"}
    if rule.zero and told:
        raise _no_part(f"{where}.{min(told)}", getattr(rule, min(told)), "zero = true alone")
    if not rule.zero and not (rule.to or rule.axes is not None or rule.shape is not None):
        raise InputError(
            "a rule that says nothing", where=where, expected=", ".join(Rule.model_fields),
            next_step="say what the weight is, or remove the rule",
        )  # fmt: skip
