"""Entry of a worker process: `python -m faceoff.worker FD FOLDER PARENT_PID START_NS CORES OTHERS`.

The parent has set the environment (threads, switches) before this interpreter started. Here exactly one framework is
imported, from its folder.
"""

import ctypes
import os
import signal
import socket
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, List, Optional

from faceoff.core.clock import monotonic_ns


def die_with_parent(parent_pid: int) -> None:
    """Asks Linux to kill this process when its parent ends, also while it is stopped."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def go_first_when_memory_runs_out() -> None:
    """Lets Linux end this process, and neither the harness nor anything else of the user's, when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # Not Linux, or a system that does not let it.


def use_cores(numbers: List[int]) -> None:
    """Keeps this process on these cores: some thread pools follow that alone, whatever they are told of threads."""
    if numbers:
        os.sched_setaffinity(0, numbers)


class HiddenModules(Loader):
    """Finds some modules and fails to import them: one framework may load another wherever that is installed.

    Args:
        names: top-level modules.
    """

    def __init__(self, names: List[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """A spec for a hidden module, as its being installed is no secret; every other is left to the next finder."""
        return ModuleSpec(name, self) if name in self._names else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Fails the import."""
        raise ModuleNotFoundError(f"{spec.name!r} is hidden from a worker of another framework", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never reached: there is no module."""


def main() -> None:
    """Serves requests on the socket that the parent passed until it closes."""
    started_ns = monotonic_ns()
    descriptor, folder, parent_pid, parent_start_ns, cores, others = sys.argv[1:7]
    die_with_parent(int(parent_pid))
    go_first_when_memory_runs_out()
    use_cores([int(number) for number in cores.split(",") if number])
    sys.meta_path.insert(0, HiddenModules(others.split(",")))
    # Ctrl-C reaches the whole terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from faceoff.core.messages import Channel
    from faceoff.worker.accounting import count_continuations
    from faceoff.worker.server import Server

    count_continuations()
    channel = Channel(socket.socket(fileno=int(descriptor)))
    interpreter_s = (started_ns - int(parent_start_ns)) / 1e9
    Server(channel, folder, interpreter_s).serve()


if __name__ == "__main__":
    main()
