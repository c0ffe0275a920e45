"""Devices by name, and which framework sees a GPU: asked of the framework itself, in a worker of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faceoff.core.errors import DeviceError, InputError
from faceoff.core.spec import DEVICES, Contender
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.cards import find_cards
from faceoff.machine.visible_cards import visible_cards
from faceoff.pool.workers import Pool
from faceoff.system.whole_files import scratch_folder

AUTO = "auto"
CARD_NUMBER = re.compile("[0-9]{1,4}")


def parse_device(text: str) -> tuple[str, int]:
    """Reads `auto`, `cpu`, `gpu` or `gpu:N` as a kind and the number of a card.

    Raises:
        InputError: anything else, or a card that the caller's shell does not show.
    """
    kind, colon, number = str(text).partition(":")
    if kind not in (AUTO, *DEVICES) or (colon and not (kind == "gpu" and CARD_NUMBER.fullmatch(number))):
        raise InputError("unknown device", where="device", got=repr(text), expected="auto, cpu, gpu or gpu:N")
    card = int(number) if colon else 0
    visible_cards(kind, card)
    return kind, card


def device_name(kind: str, card: int) -> str:
    """What `parse_device` reads."""
    return f"{kind}:{card}" if kind == "gpu" and card else kind


@dataclass(frozen=True)
class Answer:
    """What a framework said of a device.

    Args:
        settings: what it reports as in force there; empty when it cannot use the device.
        outcome: `ok`, or why not.
        reason: why it cannot use the device, one line; empty when it can.
        install: the command that installs what it lacks, where it lacks a package.
    """

    settings: dict[str, Any]
    outcome: str
    reason: str
    install: str = ""


def ask_frameworks(names: Sequence[str], device: str, configuration: Configuration, card: int = 0) -> dict[str, Answer]:
    """Starts a worker of each framework on `device`, side by side; takes as long as the slowest import."""
    try:
        visible_cards(device, card)
    except InputError as hidden:
        return dict.fromkeys(names, Answer({}, "unsupported", str(hidden)))
    contenders = {name: Contender(name, next(iter(FRAMEWORKS[name].modes))) for name in names}
    answers = {}
    with (
        scratch_folder() as logs,
        Pool(
            list(contenders.values()),
            device=device,
            number_of_card=card,
            threads=1,
            seed=0,
            log_directory=logs,
            configuration=configuration,
        ) as pool,
    ):
        for _ in pool.start():
            pass
        for name, contender in contenders.items():
            error = pool.failures.get(contender)
            if error:
                install = (error.next_step or "") if error.outcome == "missing" else ""
                answers[name] = Answer({}, error.outcome, error.what, install)
            else:
                answers[name] = Answer(pool.worker(contender).start_reply["settings"], "ok", "")
    return answers


def resolve_device(device: str, card: int, names: Sequence[str], configuration: Configuration) -> tuple[str, str]:
    """As `choose_device`, by what the frameworks of these names say if they are started on a GPU.

    Where `gpu` is asked for and the driver shows that card, they are not asked.

    Args:
        device, card: from `parse_device`.
        names: frameworks that are asked for.
        configuration: which interpreters run them.
    """
    if device == "cpu":
        return device, ""
    if device == "gpu" and any(find_cards()[0][card : card + 1]):
        # Whether any framework can use the card shows when the run starts them, seconds of imports earlier.
        return device, ""
    return choose_device(device, card, ask_frameworks(names, "gpu", configuration, card))


def choose_device(device: str, card: int, answers: Mapping[str, Answer]) -> tuple[str, str]:
    """`auto` becomes `gpu` where every framework that is asked for sees one, else `cpu`.

    Args:
        device, card: from `parse_device`, not the CPU.
        answers: from `ask_frameworks` for a GPU.

    Returns:
        The device, and what to tell of the choice; empty where there was none.

    Raises:
        DeviceError: `gpu` was asked for and no framework sees one.
    """
    looked = "; ".join(f"{name}: {answer.reason}" for name, answer in answers.items() if answer.reason)
    reasons = [answer.reason for answer in answers.values() if answer.outcome != "missing" and answer.reason]
    seen = any(not answer.reason for answer in answers.values())
    if device == AUTO:
        if seen and not reasons:
            return "gpu", "running on the GPU"
        return "cpu", f"running on the CPU, as not every framework sees a GPU: {looked}"
    if not seen:
        what = f"no GPU {card}" if card else "no GPU"
        raise DeviceError(what, where="device", got=looked, next_step="use --device cpu, or see `faceoff doctor`")
    return device, ""
