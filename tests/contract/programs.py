"""Short programs that need a framework in a process of its own, because they change it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS


def printed(framework: str, program: str) -> str:
    """What a program prints on the CPU; skips where the framework is missing."""
    installation = find_installation(FRAMEWORKS[framework], Configuration())
    if not installation.installed:
        pytest.skip(installation.reason)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
