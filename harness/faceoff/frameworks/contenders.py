"""Contenders by name: which there are on a device, and what is meant by a text of the command line."""

from __future__ import annotations

from collections.abc import Iterable

from faceoff.core.errors import InputError
from faceoff.core.spec import Contender, Workload
from faceoff.core.tuning import TUNED, does, without
from faceoff.frameworks.manifest import Setting
from faceoff.frameworks.registry import FRAMEWORKS, one_of, require_framework


def all_contenders(device: str = "cpu") -> tuple[Contender, ...]:
    """Every framework in every mode that its users get as installed, on a device, in its usual environment.

    But for those that take part on request.
    """
    return _all_of(FRAMEWORKS.usual, device)


def _all_of(names: Iterable[str], device: str) -> tuple[Contender, ...]:
    return tuple(Contender(name, mode) for name in names for mode in FRAMEWORKS[name].modes_on(device))


def parse_frameworks(texts: Iterable[str], everybody: bool = False) -> tuple[str, ...]:
    """The frameworks (with environments) of contenders as on the command line; all without any.

    Args:
        texts: as on the command line.
        everybody: all are those that take part on request too.

    Raises:
        InputError: one is not known.
    """
    names = tuple(dict.fromkeys(text.partition(":")[0] for text in texts))
    for name in names:
        require_framework(name, "contenders")
    return names or (FRAMEWORKS.with_those_on_request if everybody else FRAMEWORKS.usual)


def tuned_modes(framework: str, device: str) -> tuple[str, ...]:
    """The mode `tuned` on a device, and those that leave one of its settings out."""
    return TUNED, *(
        without(setting.name) for setting in FRAMEWORKS[framework].tuned_settings() if device in setting.devices
    )


def parse_contenders(
    texts: Iterable[str], tuned: bool = False, device: str = "cpu", notice: str = "", everybody: bool = False
) -> tuple[Contender, ...]:
    """Reads `framework[@environment]:mode` or `framework[@environment]` (all its modes there); without any, all.

    Args:
        texts: as on the command line.
        tuned: add the mode `tuned` of every framework among them.
        device: `cpu` or `gpu`.
        notice: why it is that one, for who asks for a mode of the other.
        everybody: all are those that take part on request too.

    Raises:
        InputError: a framework or a mode that is not known, or not on this device.
    """
    texts = list(texts)
    parse_frameworks(texts)
    chosen: list[Contender] = []
    for text in texts:
        name, colon, mode = text.partition(":")
        framework, modes = FRAMEWORKS[name], FRAMEWORKS[name].modes_on(device)
        every = (*modes, *tuned_modes(name, device)) if modes else ()
        if mode not in every if colon else not modes:
            if mode in framework.modes and framework.modes[mode].lacks_library:
                library = framework.modes[mode].library
                raise InputError("its library is not there", where="contenders", got=f"{text!r} without {library}")
            elsewhere = not modes or mode in framework.modes
            raise InputError(
                f"not on the {device}" if elsewhere else "unknown contender", where="contenders", got=repr(text),
                expected=one_of(f"{name}:{m}" for m in every) if modes else "a device on which it has a mode",
                next_step=(elsewhere and notice) or None,
            )  # fmt: skip
        chosen += [Contender(name, m) for m in ([mode] if colon else modes)]
    chosen = chosen or list(_all_of(parse_frameworks((), everybody), device))
    if tuned:
        chosen += [Contender(name, TUNED) for name in dict.fromkeys(contender.framework for contender in chosen)]
    return tuple(dict.fromkeys(chosen))


def settings_in_force(contender: Contender, workload: Workload) -> list[Setting]:
    """The settings that a contender has and that change anything about the step of a workload."""
    settings = FRAMEWORKS[contender.framework].tuned_settings()
    return [s for s in settings if does(contender.mode, s.name) and s.has_part_in(workload)]
