"""What `faceoff.toml` in the working folder says: interpreters, frameworks that lie elsewhere, a time limit."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from faceoff.core.errors import InputError
from faceoff.frameworks.registry import CONFIG_FILE, require_framework


class Place(BaseModel):
    """Where a framework lies that is not one of the project's.

    Attributes:
        path: its folder, with its manifest; one that is not absolute begins where `faceoff.toml` lies.
    """

    model_config = ConfigDict(extra="forbid")

    path: str


class Environment(BaseModel):
    """A further environment of a framework.

    Attributes:
        python: its interpreter; the framework's usual one unless it says so.
        path: another state of the framework's folder; the usual one unless it says so.
        installed: digest of what was installed when it was made.
        folder: made for it, and removed with it.
    """

    model_config = ConfigDict(extra="forbid")

    python: str = ""
    path: str = ""
    installed: str = ""
    folder: str = ""


class Configuration(BaseModel):
    """What `faceoff.toml` may say.

    Attributes:
        interpreters: framework to the Python interpreter that runs it.
        frameworks: those that lie elsewhere, by name.
        environments: further ones of a framework, by `NAME@ENVIRONMENT`.
        timeout_s: longest time one request to a worker may take.
    """

    model_config = ConfigDict(extra="forbid")

    interpreters: dict[str, str] = {}
    frameworks: dict[str, Place] = {}
    environments: dict[str, Environment] = {}
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
            expected="`timeout_s`, `[interpreters]` with framework = path, `[frameworks.NAME]` with path = folder, or "
            '`[environments."NAME@ENVIRONMENT"]` as `faceoff env create` writes it',
        ) from None
    for name in configuration.interpreters:
        require_framework(name, f"{path}: interpreters")
    if configuration.timeout_s is not None and not configuration.timeout_s > 0:
        raise InputError(
            "not a duration", where=f"{path}: timeout_s", got=configuration.timeout_s, expected="seconds above 0"
        )
    return configuration
