"""Which framework sees a GPU: asked of the framework itself, in a worker of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.spec import Contender
from harness.environments import FRAMEWORKS, Configuration
from harness.pool import Pool


@dataclass(frozen=True)
class Answer:
    """What a framework said of a device.

    Args:
        settings: what it reports as in force there; empty when it cannot use the device.
        outcome: `ok`, or why not.
        reason: why it cannot use the device, one line; empty when it can.
    """

    settings: dict[str, Any]
    outcome: str
    reason: str


def ask_frameworks(names: Sequence[str], device: str, configuration: Configuration) -> dict[str, Answer]:
    """Starts a worker of each framework on `device`, side by side; takes as long as the slowest import."""
    contenders = {name: Contender(name, next(iter(FRAMEWORKS[name].modes))) for name in names}
    answers = {}
    with (
        tempfile.TemporaryDirectory(prefix="faceoff-") as logs,
        Pool(
            list(contenders.values()),
            device=device,
            threads=1,
            seed=0,
            log_directory=Path(logs),
            configuration=configuration,
        ) as pool,
    ):
        for _ in pool.start():
            pass
        for name, contender in contenders.items():
            error = pool.failures.get(contender)
            if error:
                answers[name] = Answer({}, error.outcome, error.what)
            else:
                answers[name] = Answer(pool.worker(contender).start_reply["settings"], "ok", "")
    return answers
