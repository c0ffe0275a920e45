"""How much processor time the kernel lets this process's control groups have, and when it held them back. Linux.

Groups are nested, and each may have a limit; containers see the innermost as the root. Version 2 keeps a limit in
`cpu.max`, version 1 in `cpu.cfs_quota_us` and `cpu.cfs_period_us`. What is absent or odd says nothing.
"""

from pathlib import Path
from typing import List, Optional

OWN_GROUPS = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")


def processor_quota() -> Optional[float]:
    """Processors' worth of time that all processes of the tightest group have together; None without a limit."""
    return min((quota for quota in (_quota(folder) for folder in _folders()) if quota is not None), default=None)


def limited_groups() -> List[Path]:
    """The folders of the groups that have a limit; they stay the same for the life of a process."""
    return [folder for folder in _folders() if _quota(folder) is not None]


def throttled_s(folders: List[Path]) -> float:
    """Time that these groups were held back since they were made, all of their processes together."""
    total_s = 0.0
    for folder in folders:
        for line in _read(folder / "cpu.stat").splitlines():
            name, _, value = line.partition(" ")
            if name in ("throttled_usec", "throttled_time") and value.strip().isdigit():
                total_s += int(value) / (1e6 if name == "throttled_usec" else 1e9)
    return total_s


def _folders() -> List[Path]:
    """Where the groups of this process and all above them may be, innermost first."""
    found: List[Path] = []
    for line in _read(OWN_GROUPS).splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        number, controllers, group = parts
        if number == "0" and not controllers:
            roots = [MOUNTED, MOUNTED / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [MOUNTED / controllers, MOUNTED / "cpu"]
        else:
            continue
        for root in roots:
            # In a container the path may be that of the host, of which only the end or nothing is to be seen here.
            inner = root / group.strip("/")
            found += [inner, *(parent for parent in inner.parents if parent == root or root in parent.parents)]
    return list(dict.fromkeys(folder.resolve() for folder in found if folder.is_dir()))


def _quota(folder: Path) -> Optional[float]:
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
    # `max`, and -1 in version 1, mean none.
    if len(words) != 2 or not all(word.isdigit() and int(word) > 0 for word in words):
        return None
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
