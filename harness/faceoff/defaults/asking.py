"""One framework under the probe: its worker, and what is kept of its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceoff.core.errors import HarnessError, WorkerError
from faceoff.core.weights import Weights
from faceoff.defaults.atlas import Finding
from faceoff.defaults.fitting import FitError
from faceoff.defaults.optimisers import Rule
from faceoff.pool.worker import Worker

PREFIX = "`probe` failed: "
Found = dict[str, Finding]
Arrays = dict[str, np.ndarray]


class RefusalError(HarnessError):
    """The framework does not do what a probe asks, and says so; `what` is what it says."""


@dataclass
class Observed:
    """What was found of one framework.

    Args:
        findings: by topic and word.
        draws: weights from its own default layers, in canonical names and layouts, for each model and repetition.
        rules: update rule and constants by optimiser word, as fitted.
    """

    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    draws: dict[str, list[Weights]] = field(default_factory=dict)
    rules: dict[str, tuple[Rule, dict[str, float]]] = field(default_factory=dict)

    def number(self, topic: str, word: str, name: str) -> float | None:
        """A number of a finding; None where it was not found."""
        finding = self.findings.get((topic, word))
        return finding.numbers.get(name) if finding else None


class Asker:
    """Asks a worker for probes, and notes what is found.

    Args:
        worker: of the framework, not configured.
        seed: of draws and inputs.
    """

    def __init__(self, worker: Worker, seed: int) -> None:
        self.seed = seed
        self.observed = Observed()
        self._worker = worker

    def ask(self, probe: str, **arguments: Any) -> Arrays:
        """The arrays of a probe.

        Raises:
            RefusalError: the framework raised an error of its own.
            WorkerError: the worker died, hung, or has no such framework.
        """
        try:
            return self._worker.request("probe", name=probe, arguments=arguments)
        except WorkerError as error:
            if not self._worker.alive or error.outcome in ("missing", "timeout"):
                raise
            text = error.what.removeprefix(PREFIX)
            raise RefusalError(text if len(text) <= 160 else text[:157] + "...", where=probe) from None

    def rng(self) -> np.random.Generator:
        """A new generator, the same one for every framework."""
        return np.random.default_rng(self.seed)

    def note(self, topic: str, word: str, find: Callable[[], Finding]) -> Finding:
        """Keeps what `find` finds under a word; a refusal and a fit that fails are findings too."""
        try:
            finding = find()
        except RefusalError as error:
            finding = Finding(words=f"refuses: {error.what}", outcome="unsupported")
        except FitError as error:
            finding = Finding(words=f"not understood: {error}", outcome="disagrees")
        self.observed.findings[topic, word] = finding
        return finding
