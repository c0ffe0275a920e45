"""What a GPU says of itself while rounds are timed: clocks, temperature, throttling, who else is on it (NVIDIA's NVML).

Read only: no setting of a card is ever changed here.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pynvml

from faceoff.machine.visible_cards import shown_cards, visible_cards
from faceoff.results.costs import UNKNOWN, CardInfo, CardUse

# Bits of nvmlDeviceGetCurrentClocksEventReasons that say a clock is lower than it could be; the others say why it need
# not be higher (idle, a clock that somebody has set, the display).
THROTTLING = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
# Libraries need some memory for themselves, which is never the last that there is.
FULL_SHARE = 0.05
# The second one is raised, and is no kind of the first, where a driver is older than a function.
NO_ANSWER = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError)
# A large card at work lives at its power limit, whoever uses it best most of all.
EVERYDAY = THROTTLING[0x04]


@dataclass(frozen=True)
class Reading:
    """A card at one moment.

    Args:
        clock_mhz, memory_clock_mhz: of the multiprocessors and of the memory; None when not told, as for the next two.
        temperature_c: of the chip.
        throttled: why the clock is lower than it could be; empty when it is not.
        process_bytes: memory of each process on the card, by process id; one whose memory is not told has 0.
    """

    clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    throttled: tuple[str, ...] | None
    process_bytes: dict[int, int]

    @property
    def disturbed(self) -> bool:
        """Whether the clock was lower for another reason than the work itself."""
        return any(reason != EVERYDAY for reason in self.throttled or ())


class Card:
    """A GPU as its driver shows it. Make it with `open_card`.

    Args:
        handle: NVML's.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def describe(self) -> CardInfo:
        """Name, driver and limits; what the driver does not tell is left out."""
        major, minor = _asked(pynvml.nvmlDeviceGetCudaComputeCapability, self._handle) or (0, 0)
        cuda = _asked(pynvml.nvmlSystemGetCudaDriverVersion_v2) or 0
        memory = _asked(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        limit_mw = _asked(pynvml.nvmlDeviceGetEnforcedPowerLimit, self._handle)
        return CardInfo(
            name=str(_asked(pynvml.nvmlDeviceGetName, self._handle) or UNKNOWN),
            uuid=str(_asked(pynvml.nvmlDeviceGetUUID, self._handle) or ""),
            driver=str(_asked(pynvml.nvmlSystemGetDriverVersion) or ""),
            cuda_driver=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
            compute_capability=f"{major}.{minor}" if major else "",
            memory_bytes=int(memory.total) if memory else None,
            power_limit_w=limit_mw / 1000 if limit_mw else None,
            most_clock_mhz=_asked(pynvml.nvmlDeviceGetMaxClockInfo, self._handle, pynvml.NVML_CLOCK_SM),
        )

    def is_full(self) -> bool:
        """Whether hardly any memory is left; False where the driver does not tell."""
        memory = _asked(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        return memory is not None and memory.free < FULL_SHARE * memory.total

    def read(self) -> Reading:
        """The card now."""
        reasons = _asked(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, self._handle)
        processes = _asked(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle) or []
        return Reading(
            clock_mhz=_asked(pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=_asked(pynvml.nvmlDeviceGetClockInfo, self._handle, pynvml.NVML_CLOCK_MEM),
            temperature_c=_asked(pynvml.nvmlDeviceGetTemperature, self._handle, pynvml.NVML_TEMPERATURE_GPU),
            throttled=None if reasons is None else tuple(name for bit, name in THROTTLING.items() if reasons & bit),
            process_bytes={process.pid: process.usedGpuMemory or 0 for process in processes},
        )


def _asked(call: Any, *arguments: Any) -> Any:
    """What NVML answers, or None: virtual cards, partitions and old drivers do not tell everything."""
    try:
        return call(*arguments)
    except NO_ANSWER:
        return None


def use_of_card(readings: Sequence[Reading], process_id: int, own_processes: Collection[int]) -> CardUse | None:
    """What a card said after each round of a process; None where there was none.

    Args:
        readings: one after each round.
        process_id: of the process.
        own_processes: ids of all that belong to the run.
    """
    if not readings:
        return None

    def span(values: Sequence[int | None]) -> tuple[int, int] | None:
        told = [value for value in values if value is not None]
        return (min(told), max(told)) if told else None

    # Inside a container the driver may number processes otherwise, and then knows none of these.
    seen = any(process_id in reading.process_bytes for reading in readings)
    return CardUse(
        clock_mhz=span([reading.clock_mhz for reading in readings]),
        memory_clock_mhz=span([reading.memory_clock_mhz for reading in readings]),
        temperature_c=span([reading.temperature_c for reading in readings]),
        throttled=dict(Counter(reason for reading in readings for reason in reading.throttled or ()))
        if any(reading.throttled is not None for reading in readings)
        else None,
        process_bytes=max(reading.process_bytes.get(process_id, 0) for reading in readings),
        others=max(len(reading.process_bytes.keys() - set(own_processes)) for reading in readings) if seen else None,
    )


@contextlib.contextmanager
def open_card(device: str, card: int) -> Iterator[Card | None]:
    """The card that workers see while the block runs; None on another device, or where the driver does not answer."""
    if device != "gpu":
        yield None
        return
    try:
        pynvml.nvmlInit()
    except NO_ANSWER:
        yield None
        return
    try:
        yield _find(visible_cards(device, card))
    finally:
        pynvml.nvmlShutdown()


def _find(shown: str) -> Card | None:
    """By number in the order of the bus, or by the name that begins with `GPU-` or `MIG-`, of which a part will do."""
    if not shown.isascii():
        return None
    if shown.isdigit():
        handle = _asked(pynvml.nvmlDeviceGetHandleByIndex, int(shown))
    else:
        handle = _asked(pynvml.nvmlDeviceGetHandleByUUID, shown)
        handle = _named(shown) if handle is None else handle
    return Card(handle) if handle is not None else None


def _named(beginning: str) -> Any:
    """The only card whose UUID begins so, as CUDA looks for it too."""
    handles = [_asked(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(_asked(pynvml.nvmlDeviceGetCount) or 0)]
    names = [str(_asked(pynvml.nvmlDeviceGetUUID, handle)) for handle in handles]
    found = [handle for handle, name in zip(handles, names, strict=True) if name.startswith(beginning)]
    return found[0] if len(found) == 1 else None


def find_cards() -> tuple[list[CardInfo | None], str]:
    """Every card that can be asked for, in the order of `gpu:N`, and why there is none; else the reason is empty.

    None stands for one that the caller's shell shows and the driver cannot open.
    """
    try:
        pynvml.nvmlInit()
    except NO_ANSWER as error:
        return [], f"no NVIDIA driver answers ({error})"
    try:
        shown = shown_cards()
        names = shown if shown is not None else [str(i) for i in range(_asked(pynvml.nvmlDeviceGetCount) or 0)]
        cards = [card.describe() if card else None for card in map(_find, names)]
        hidden = "" if shown is None else f" that CUDA_VISIBLE_DEVICES={','.join(shown)} names"
        return cards, "" if any(cards) else f"the driver shows no card{hidden}"
    finally:
        pynvml.nvmlShutdown()
