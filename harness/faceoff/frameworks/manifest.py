"""What a framework says of itself in its folder, in `framework.toml`: read and checked without importing anything."""

from __future__ import annotations

import ctypes.util
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from faceoff.core.error_words import ErrorWords
from faceoff.core.errors import InputError
from faceoff.core.own import port_of
from faceoff.core.precision import DTYPES
from faceoff.core.spec import AT, DEVICES, MODEL_KINDS, OPTIMISERS, STEPS, OwnSpec, Workload
from faceoff.core.tuning import is_tuned, kind_of, left_out
from faceoff.machine.processor import is_amd_with_avx2

FILE = "framework.toml"
CONTRACT = 1
# Stands in a value for the folder of compiled code.
CACHE = "{cache}"
# What the manifest of a folder does not say: it belongs to whoever names the folder.
NOT_TOLD = ("folder", "environment", "python")

NAME = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Dashed = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Variables = Mapping[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str]


def _some_of(known: tuple[str, ...], where: str) -> Any:
    """A tuple of these names alone."""

    def check(names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _require_known(name, known, where)
        return names

    return AfterValidator(check)


def _require_known(name: str, known: tuple[str, ...], where: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {where} {name!r}, expected some of {', '.join(known)}")
    return name


Kinds = Annotated[tuple[str, ...], _some_of(MODEL_KINDS, "model")]
Steps = Annotated[tuple[str, ...], _some_of(STEPS, "step")]
Device = Annotated[str, AfterValidator(lambda name: _require_known(name, DEVICES, "device"))]
Devices = Annotated[tuple[str, ...], _some_of(DEVICES, "device")]
Dtypes = Annotated[tuple[str, ...], _some_of(DTYPES, "dtype")]
Optimisers = Annotated[tuple[str, ...], _some_of(OPTIMISERS, "optimiser")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mode(_Part):
    """One way to run a framework.

    Attributes:
        devices: where its users get it.
        variables: of the environment, set before its worker starts.
        compiles: how long a model takes to be built anew: nothing is compiled, or in a second, or longer.
        compilers: device to the language whose compiler it calls, `C` or `C++`.
        library: of the system, without which its users do not get it; empty for none.
        own_models: it runs models of users' own too.
    """

    devices: Devices = DEVICES
    variables: Variables = {}
    compiles: Literal["nothing", "quickly", "slowly"] = "slowly"
    compilers: Mapping[Device, Literal["C", "C++"]] = {}
    library: str = ""
    own_models: bool = True

    @property
    def lacks_library(self) -> bool:
        """Whether the system does not have its library."""
        return bool(self.library) and not _is_on_system(self.library)


@functools.cache
def _is_on_system(library: str) -> bool:
    return ctypes.util.find_library(library) is not None


class Setting(_Part):
    """One of those that make up the mode `tuned`.

    Attributes:
        name: as in the mode `tuned-without-NAME`.
        what: it does, in words.
        variables: of the worker's environment.
        models: the kinds of model that it has a part in.
        steps: likewise.
        devices: likewise.
        only_on_amd_with_avx2: it is one on such processors alone.
    """

    name: str = ""
    what: str
    variables: Variables = {}
    models: Kinds = MODEL_KINDS
    steps: Steps = STEPS
    devices: Devices = DEVICES
    only_on_amd_with_avx2: bool = False

    def has_part_in(self, workload: Workload) -> bool:
        """Whether it changes anything about the step of this workload."""
        return workload.step in self.steps and workload.model.kind in self.models and workload.device in self.devices


# Of every framework: fewer page faults in every training step.
ALLOCATOR = Setting(
    name="allocator",
    what="freed memory stays with the process, large blocks lie on huge pages",
    variables={
        "GLIBC_TUNABLES": ":".join(
            (
                "glibc.malloc.mmap_threshold=4294967296",
                "glibc.malloc.trim_threshold=4294967296",
                "glibc.malloc.top_pad=67108864",
                "glibc.malloc.hugetlb=1",
            )
        )
    },
)


class Otherwise(_Part):
    """Models and modes in which other code of a framework serves float64 than narrower dtypes."""

    models: Kinds
    modes: tuple[str, ...]


class CompiledFiles(_Part):
    """What compilers keep in the folder of compiled code, as glob patterns, so that what is not whole can be removed.

    Attributes:
        libraries: shared libraries.
        at_work: ending of the folder, beside a library, in which it is being made; empty if there is none.
        packed: files packed by zlib or Zstandard.
    """

    libraries: str = ""
    at_work: str = ""
    packed: str = ""


class Offer(_Part):
    """What a framework can do. What it does not offer is not asked of it; what it offers and cannot do is a failure.

    Attributes:
        models, dtypes, optimisers: that it has.
        steps: `inference`, with the gradients too, or all three.
        trace: it gives the outputs of layers, by which the place of a fault is found.
        noise: its models run in stochastic arithmetic, by which a side of a user's own model can be the reference.
    """

    models: Kinds = MODEL_KINDS
    steps: Steps = STEPS
    dtypes: Dtypes = DTYPES
    optimisers: Optimisers = OPTIMISERS
    trace: bool = True
    noise: bool = False

    @property
    def widest(self) -> str:
        """The dtype in which the meaning is checked: float64, or what comes next."""
        return next(dtype for dtype in DTYPES if dtype in self.dtypes)

    @field_validator("steps")
    @classmethod
    def _begin_with_inference(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        if set(steps) not in ({"inference"}, {"inference", "gradients"}, set(STEPS)):
            raise ValueError("expected inference, inference and gradients, or all of " + ", ".join(STEPS))
        return tuple(step for step in STEPS if step in steps)


class Framework(_Part):
    """A framework as the parent knows it.

    Attributes:
        contract: the version of the interface that it is written for.
        name: as in contenders, and of the optional dependency that installs it.
        title: as its makers write it.
        module: what `import` takes.
        distributions: packages whose versions are recorded, as far as they are installed.
        needs: top-level modules of other frameworks that its worker may import; all others are hidden from it.
        modes: by name; the first is what its users get when they say nothing.
        variables: of the environment of every worker; `{cache}` is the folder of compiled code.
        variables_on: likewise, on one device.
        compile_cache: variables that keep compiled code between processes.
        caches_by_default: its users have such a cache without asking for it.
        tilting: beginnings of variables of the shell that would change its speed or results; no worker gets them.
        harmless: beginnings of those that begin alike and may stay.
        otherwise_in_float64: where a finding in a narrower dtype is not cleared by float64.
        settings: of its mode `tuned`, beside the allocator's.
        errors: the words of its error texts.
        compiled: which of the files that its compilers keep are to be whole.
        kept_flags: of a variable that would change its speed, the flags by their beginnings that it needs to start.
        can: what it offers; everything unless it says less.
        takes_gb: the least and the most that an environment of it takes on a disk, in gigabytes, without asking for a
            build for GPUs: such a one may be what is found.
        on_request: it takes part only where it is named, or in a preset that asks for such frameworks.
        shares: folders beside its own that hold what it has in common with others; text or data, no Python.
        place: where it stands in tables and plans; of those of one place the names decide.
        folder: where it lies.
        environment: one that was made for it beside its usual one; empty for the usual one.
        python: the interpreter of that environment; empty for the usual one.
    """

    contract: int
    name: Name
    title: str
    module: str
    distributions: tuple[str, ...]
    needs: tuple[str, ...] = ()
    modes: Mapping[Dashed, Mode] = Field(min_length=1)
    variables: Variables = {}
    variables_on: Mapping[Device, Variables] = {}
    compile_cache: Variables = {}
    caches_by_default: bool = False
    tilting: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    otherwise_in_float64: tuple[Otherwise, ...] = ()
    settings: Mapping[Dashed, Setting] = {}
    can: Offer = Offer()
    takes_gb: tuple[Size, Size] | None = None
    on_request: bool = False
    shares: tuple[Name, ...] = ()
    errors: ErrorWords = ErrorWords()
    compiled: CompiledFiles = CompiledFiles()
    kept_flags: Mapping[str, tuple[str, ...]] = {}
    place: int = 100
    folder: Path = Path()
    environment: str = ""
    python: str = ""

    @property
    def label(self) -> str:
        """What contenders of it begin with: `NAME`, or `NAME@ENVIRONMENT`."""
        return f"{self.name}{AT}{self.environment}" if self.environment else self.name

    @property
    def shared_folders(self) -> tuple[Path, ...]:
        """Where what it has in common with others lies."""
        return tuple(self.folder.parent / name for name in self.shares)

    def modes_on(self, device: str) -> tuple[str, ...]:
        """The modes that its users get on a device."""
        return tuple(name for name, mode in self.modes.items() if device in mode.devices and not mode.lacks_library)

    def tuned_settings(self) -> tuple[Setting, ...]:
        """What makes up the mode `tuned` on this machine's processor."""
        own = (setting.model_copy(update={"name": name}) for name, setting in self.settings.items())
        return (ALLOCATOR, *(s for s in own if not s.only_on_amd_with_avx2 or is_amd_with_avx2()))

    def tuned_variables(self, left_out: str, device: str) -> dict[str, str]:
        """The environment variables of the mode `tuned` on a device, without one of its settings."""
        settings = (s for s in self.tuned_settings() if s.name != left_out and device in s.devices)
        return {name: value for setting in settings for name, value in setting.variables.items()}

    def variables_of(self, mode: str, device: str = "cpu") -> Mapping[str, str]:
        """The environment variables that make a mode, set before its worker starts."""
        if is_tuned(mode):
            # Starts from what its users get.
            first = next(iter(self.modes.values()))
            return {**first.variables, **self.tuned_variables(left_out(mode), device)}
        return self.modes[mode].variables

    def always(self, device: str, cache: Path) -> dict[str, str]:
        """The environment variables of all its workers on a device."""
        return _filled({**self.variables, **self.variables_on.get(device, {})}, cache)

    def keeps_compiled(self, cache: Path) -> dict[str, str]:
        """The environment variables by which it keeps compiled code in a folder."""
        return _filled(self.compile_cache, cache)

    def lacks(self, workload: Workload, step: str = "inference", mode: str = "") -> str:
        """What it does not offer of a step of a workload, in words; empty if it offers all of it.

        Args:
            workload: its own step does not count, as several are asked of one model.
            step: that is wanted.
            mode: likewise; empty for any.
        """
        if step not in self.can.steps:
            return f"{self.title} offers no {step} here"
        if isinstance(workload.model, OwnSpec):
            if not port_of(workload.model).key_of(self.label):
                return f"{workload.model.name} has no side in {self.title}"
            if workload.dtype != workload.storage_dtype:
                return f"no rounding noise of {workload.dtype} is known of a user's own model"
            if mode and (is_tuned(mode) or not self.modes[mode].own_models):
                return f"{self.title} runs built-in models only in the mode {mode}"
        elif workload.model.kind not in self.can.models:
            return f"{self.title} offers no {workload.model.kind} models here"
        if workload.dtype not in self.can.dtypes:
            return f"{self.title} offers no {workload.dtype} here"
        if "training" in self.can.steps and workload.optimiser.kind not in self.can.optimisers:
            return f"{self.title} offers no {workload.optimiser.kind} here"
        return ""

    def runs_otherwise_in_float64(self, mode: str, model: str) -> bool:
        """Whether other code of it serves a model in float64 than in narrower dtypes."""
        return any(model in part.models and kind_of(mode) in part.modes for part in self.otherwise_in_float64)


def _filled(variables: Mapping[str, str], cache: Path) -> dict[str, str]:
    return {name: text.replace(CACHE, str(cache)) for name, text in variables.items()}


def read_manifest(folder: Path) -> Framework:
    """The framework that lies in a folder.

    Raises:
        InputError: there is no manifest, or it is not one of this contract.
    """
    path = folder / FILE
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(
            "cannot be read", where=str(path), got=said, expected="the manifest of a framework, a TOML file",
            next_step="mend it, or name another folder",
        ) from None  # fmt: skip
    if told.get("contract") != CONTRACT:
        raise InputError(
            "written for another version of the contract", where=f"{path}: contract", got=repr(told.get("contract")),
            expected=str(CONTRACT), next_step="install the version of the framework's folder that fits this Face-off",
        )  # fmt: skip
    try:
        if found := [key for key in NOT_TOLD if key in told]:
            where = f"{path}: {found[0]}"
            raise InputError("no part of a manifest", where=where, got=repr(told[found[0]])[:80], next_step="remove it")
        framework = Framework.model_validate({**told, "folder": folder})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            first["msg"][:1].lower() + first["msg"][1:], where=f"{path}: {where}", got=repr(first["input"])[:80],
            next_step="mend it; impls/*/framework.toml are examples",
        ) from None  # fmt: skip
    for shared in framework.shared_folders:
        if not shared.is_dir():
            raise InputError(
                "no such folder", where=f"{path}: shares", got=str(shared), next_step="copy it there from where it was"
            )
    return framework
