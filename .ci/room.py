"""Says how much disk an installation will take before anything is downloaded, and stops where there is no room for it.

    pip install --dry-run --report FILE torch;  room.py FOLDER FILE

PyTorch's build for CUDA brings its libraries along, which take more than all frameworks together.
"""

import json
import shutil
import sys
from pathlib import Path

GIGABYTE = 10**9
# Measured with the pinned versions: three frameworks with PyTorch's build for the CPU, and with the one for CUDA.
FOR_CPU, FOR_CUDA = 3 * GIGABYTE, 7.5 * GIGABYTE


def takes_bytes(report: Path) -> float:
    """What the installation takes, by what pip would install for PyTorch; where pip does not say, as for the CPU."""
    try:
        names = [item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]]
    except (OSError, ValueError, LookupError, TypeError):
        return FOR_CPU
    return FOR_CUDA if any(name.startswith("nvidia-") for name in names) else FOR_CPU


def main(folder: Path, report: Path) -> int:
    needed, free = takes_bytes(report), shutil.disk_usage(folder).free
    smaller = ""
    if needed == FOR_CUDA:
        smaller = (
            "; pip finds PyTorch's build for CUDA: with TORCH_INDEX=URL make looks for the smaller one for the CPU"
        )
        smaller += " in that index too (PyTorch's page on installing names it)"
    text = f"{folder} will take about {needed / GIGABYTE:g} GB, once{smaller}"
    if free < needed:
        print(f"no room: {text}; {free / GIGABYTE:.1f} GB are free", file=sys.stderr)
        return 2
    print(f"{text}; this takes some minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
