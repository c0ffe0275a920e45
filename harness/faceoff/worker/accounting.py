"""What the kernel says happened to this process while a round ran. Linux; elsewhere nothing is known and all is 0."""

import glob
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from typing import Dict, List, Tuple

from faceoff.core.cgroups import limited_groups, throttled_s

DARWIN = sys.platform == "darwin"
TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01


_LIMITED = limited_groups()
_continued: List[int] = []


def count_continuations() -> None:
    """From now on it is known when this process went on after it was stopped."""
    signal.signal(signal.SIGCONT, lambda number, frame: _continued.append(number))


@dataclass(frozen=True)
class Accounting:
    """Readings of counters that only grow.

    Args:
        cpu_s: processor time of all threads of this process.
        busy_s: processor time of everything on this machine, in ticks of the kernel's clock: right over many rounds.
        stolen_s: time that the hypervisor gave the machine's cores to another machine.
        waited_s: time that threads of this process were ready and had no core, be it for others or for threads of its
            own, of which some frameworks start more than there are cores; needs the kernel's schedstat.
        major_faults: pages that had to be read from disk.
        switches: times that a thread of this process had to leave its core to another one.
        asleep_s: time that the machine slept.
        throttled_s: time that the kernel held this process's control groups back, as they had had their share.
        continued: times that this process went on after it was stopped.
    """

    cpu_s: float
    busy_s: float
    stolen_s: float
    waited_s: float
    major_faults: int
    switches: int
    asleep_s: float
    throttled_s: float = 0.0
    continued: int = 0

    @staticmethod
    def read() -> "Accounting":
        """The counters now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
        busy_s, stolen_s = _machine_s()
        return Accounting(
            cpu_s=usage.ru_utime + usage.ru_stime,
            busy_s=busy_s,
            stolen_s=stolen_s,
            waited_s=_waited_s(),
            major_faults=usage.ru_majflt,
            switches=usage.ru_nivcsw,
            asleep_s=boot_s - time.monotonic(),
            throttled_s=throttled_s(_LIMITED),
            continued=len(_continued),
        )

    def since(self, before: "Accounting") -> Dict[str, float]:
        """What was added since `before`, by name."""
        return {
            "cpu_s": self.cpu_s - before.cpu_s,
            "busy_s": self.busy_s - before.busy_s,
            "stolen_s": self.stolen_s - before.stolen_s,
            "waited_s": self.waited_s - before.waited_s,
            "major_faults": self.major_faults - before.major_faults,
            "switches": self.switches - before.switches,
            "asleep_s": self.asleep_s - before.asleep_s,
            "throttled_s": self.throttled_s - before.throttled_s,
            "continued": self.continued - before.continued,
        }


def host_memory() -> Dict[str, int]:
    """Bytes of memory that this process holds, and held at most since `forget_peak`."""
    try:
        with open("/proc/self/status") as file:
            sizes = dict(line.split(":", 1) for line in file)
        in_use, peak = (int(sizes[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    except (OSError, LookupError, ValueError):
        # Not Linux, where a process begins with the peak of the one that started it.
        return {"host_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if DARWIN else 1024)}
    return {"host_in_use_bytes": in_use, "host_peak_bytes": max(in_use, peak)}


def forget_peak() -> None:
    """Lets the most memory that this process has held be counted anew from here."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return  # Not Linux, or a system that does not let it: then the peak is that of the process's life.


def _machine_s() -> Tuple[float, float]:
    """Time that all cores together were busy, and that they were stolen."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, stolen = (int(part) for part in file.readline().split()[1:9])
    except (OSError, ValueError):
        return 0.0, 0.0
    return (user + nice + system + irq + softirq) * TICK_S, stolen * TICK_S


def _waited_s() -> float:
    total_ns = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        try:
            with open(path) as file:
                total_ns += int(file.read().split()[1])
        except (OSError, ValueError, IndexError):
            continue  # A thread that has just ended, or a kernel that keeps no such account.
    return total_ns / 1e9
