"""Which frameworks there are, and which interpreter runs each.

Nothing here imports a framework: what is installed is read from package metadata.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.core import packages
from harness.core.errors import InputError
from harness.core.spec import Contender
from harness.core.tuning import TUNED, is_tuned, left_out, without
from harness.frameworks.tuning import settings_of, variables_of
from harness.machine.processor import describe_processor
from harness.system.advice import install_command

CONFIG_FILE = "faceoff.toml"


@dataclass(frozen=True)
class Framework:
    """A framework as the parent knows it.

    Args:
        name: folder under `impls/`, and the optional dependency that installs it.
        module: what `import` takes.
        distributions: packages whose versions are recorded, as far as they are installed.
        modes: mode to the environment variables that its worker needs before it starts.
        only_on: the device of each mode that there is on one alone.
        compile_cache: environment variables that keep compiled code between processes; `{}` is the folder.
        caches_by_default: its users have such a cache without asking for it.
        compilers: mode to the language whose compiler it calls, by device.
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    modes: Mapping[str, Mapping[str, str]]
    compile_cache: Mapping[str, str]
    caches_by_default: bool = False
    only_on: Mapping[str, str] = field(default_factory=dict)
    compilers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def modes_on(self, device: str) -> tuple[str, ...]:
        """The modes that its users get on a device."""
        return tuple(mode for mode in self.modes if self.only_on.get(mode, device) == device)

    def environment(self, mode: str, device: str = "cpu") -> Mapping[str, str]:
        """The environment variables that a worker in `mode` needs before it starts."""
        if is_tuned(mode):
            # Starts from what its users get.
            return {**next(iter(self.modes.values())), **variables_of(self.name, left_out(mode), device)}
        return self.modes[mode]


FRAMEWORKS: dict[str, Framework] = {
    framework.name: framework
    for framework in (
        Framework(
            "pytorch",
            "torch",
            ("torch",),
            {"eager": {}, "compile": {}, "cuda-graphs": {}},
            {"TORCHINDUCTOR_CACHE_DIR": "{}"},
            caches_by_default=True,
            only_on={"cuda-graphs": "gpu"},
            compilers={"compile": {"cpu": "C++", "gpu": "C"}, "cuda-graphs": {"gpu": "C"}},
        ),
        Framework(
            "tensorflow",
            "tensorflow",
            ("tensorflow-cpu", "tensorflow", "keras"),
            {
                "eager": {"TF_ENABLE_ONEDNN_OPTS": "0"},
                "graph": {"TF_ENABLE_ONEDNN_OPTS": "0"},
                "graph-onednn": {"TF_ENABLE_ONEDNN_OPTS": "1"},
                "xla": {"TF_ENABLE_ONEDNN_OPTS": "0"},
            },
            # XLA's cache in TensorFlow grows with every process and hardly ever hits: its keys hold counters. For a new
            # card the driver compiles most of TensorFlow's kernels, and keeps them.
            {"CUDA_CACHE_PATH": "{}/cuda", "CUDA_CACHE_MAXSIZE": "4294967296"},
            caches_by_default=True,
            only_on={"graph-onednn": "cpu"},
        ),
        Framework(
            "jax",
            "jax",
            ("jax", "jaxlib", "flax", "optax"),
            {"jit": {}, "cudnn": {}},
            {
                "JAX_COMPILATION_CACHE_DIR": "{}",
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
                # Or one process's choice of kernels would be that of all others for good.
                "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
            },
            only_on={"cudnn": "gpu"},
        ),
    )
}


class Configuration(BaseModel):
    """What `faceoff.toml` may say.

    Attributes:
        interpreters: framework to the Python interpreter that runs it.
        timeout_s: longest time one request to a worker may take.
    """

    model_config = ConfigDict(extra="forbid")

    interpreters: dict[str, str] = {}
    timeout_s: float | None = None


def read_configuration(path: Path | None = None) -> Configuration:
    """Reads `faceoff.toml` from the working folder; without one, defaults.

    Raises:
        InputError: the file cannot be read, is not TOML, or holds a key or a framework that is not known.
    """
    path = path or Path(CONFIG_FILE)
    if not path.exists():
        return Configuration()
    try:
        configuration = Configuration.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            "cannot be read", where=str(path), got=str(error), expected="a TOML file", next_step="mend or remove it"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            "setting that is not known or not valid",
            where=f"{path}: {where}",
            got=first["msg"],
            expected="`timeout_s` or a table `interpreters` of framework = path",
        ) from None
    for name in configuration.interpreters:
        if name not in FRAMEWORKS:
            raise InputError("unknown framework", where=f"{path}: interpreters", got=name, expected=_names(FRAMEWORKS))
    if configuration.timeout_s is not None and not configuration.timeout_s > 0:
        raise InputError(
            "not a duration", where=f"{path}: timeout_s", got=configuration.timeout_s, expected="seconds above 0"
        )
    return configuration


def _names(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)


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
    """

    python: str
    versions: dict[str, str]
    reason: str = ""
    next_step: str = ""

    @property
    def installed(self) -> bool:
        return not self.reason


def find_installation(framework: Framework, configuration: Configuration) -> Installation:
    """Looks for `framework` in its interpreter, without importing it."""
    python = interpreter(framework.name, configuration)
    install = f"install it: {install_command(python, f'{_project()}[{framework.name}]')}"
    try:
        answer = _ask(python, "look_up", framework)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        source = f"{variable_name(framework.name)} or {CONFIG_FILE}"
        return Installation(python, {}, f"interpreter {python} cannot be run: {_told(error)}", f"check {source}")
    found, versions = answer["found"], answer["versions"]
    if not found:
        return Installation(python, {}, f"no module named {framework.module!r} for {python}", install)
    return Installation(python, versions)


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
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").exists():
        return "faceoff"
    return "." if root == Path.cwd() else str(root)


@functools.cache
def installed_bytes(name: str, python: str) -> int | None:
    """Size on disk of a framework and all that it requires, for an interpreter; None when that cannot be found out."""
    try:
        return int(_ask(python, "disk_bytes", FRAMEWORKS[name]))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _ask(python: str, what: str, framework: Framework) -> Any:
    """`look_up` or `disk_bytes` of `harness.core.packages` for an interpreter."""
    if python == sys.executable:
        if what == "look_up":
            return packages.look_up(framework.module, framework.distributions)
        return packages.disk_bytes(framework.distributions)
    command = [python, packages.__file__, what, framework.module, *framework.distributions]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def all_contenders(device: str = "cpu") -> tuple[Contender, ...]:
    """Every framework in every mode that its users get as installed, on a device."""
    return tuple(Contender(f.name, mode) for f in FRAMEWORKS.values() for mode in f.modes_on(device))


def parse_frameworks(texts: Iterable[str]) -> tuple[str, ...]:
    """The frameworks of contenders as on the command line; all without any. Raises InputError on one not known."""
    names = tuple(dict.fromkeys(text.partition(":")[0] for text in texts))
    for name in names:
        if name not in FRAMEWORKS:
            raise InputError("unknown framework", where="contenders", got=repr(name), expected=_names(FRAMEWORKS))
    return names or tuple(FRAMEWORKS)


def tuned_modes(framework: str, device: str) -> tuple[str, ...]:
    """The mode `tuned` on a device, and those that leave one of its settings out."""
    return TUNED, *(without(setting.name) for setting in settings_of(framework) if device in setting.devices)


def parse_contenders(
    texts: Iterable[str], tuned: bool = False, device: str = "cpu", notice: str = ""
) -> tuple[Contender, ...]:
    """Reads `framework:mode` or `framework` (all its modes there); without any, all contenders.

    Args:
        texts: as on the command line.
        tuned: add the mode `tuned` of every framework among them.
        device: `cpu` or `gpu`.
        notice: why it is that one, for who asks for a mode of the other.

    Raises:
        InputError: a framework or a mode that is not known, or not on this device.
    """
    texts = list(texts)
    parse_frameworks(texts)
    chosen: list[Contender] = []
    for text in texts:
        name, colon, mode = text.partition(":")
        framework, modes = FRAMEWORKS[name], FRAMEWORKS[name].modes_on(device)
        every = (*modes, *tuned_modes(name, device))
        if colon and mode not in every:
            known = (f"{name}:{m}" for m in every)
            elsewhere = mode in framework.modes
            raise InputError(
                f"not on the {device}" if elsewhere else "unknown contender", where="contenders", got=repr(text),
                expected=_names(known), next_step=(elsewhere and notice) or None,
            )  # fmt: skip
        chosen += [Contender(name, m) for m in ([mode] if colon else modes)]
    chosen = chosen or list(all_contenders(device))
    if tuned:
        chosen += [Contender(name, TUNED) for name in dict.fromkeys(contender.framework for contender in chosen)]
    return tuple(dict.fromkeys(chosen))


def cache_root() -> Path:
    """The folder for what can be computed anew but takes long; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # One that is not absolute is to be ignored, says the specification; each process would take it for another one.
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "faceoff"


def compile_cache_root() -> Path:
    """The folder for compiled code: the same, unless there is a space in its path, which TorchInductor cannot bear."""
    root = cache_root()
    return Path(tempfile.gettempdir()) / f"faceoff-{os.getuid()}" if re.search(r"\s", str(root)) else root


def cache_directory(versions: Mapping[str, str]) -> Path:
    """The folder, made if need be, where code compiled by these versions on such a processor is kept between runs.

    Raises:
        OSError: it cannot be made or written to.
    """
    folder = compile_cache_root() / f"{zlib.crc32(repr((sorted(versions.items()), describe_processor())).encode()):08x}"
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to")
    return folder
