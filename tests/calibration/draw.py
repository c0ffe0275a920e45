"""Random cases of what users do, for studies of the check of agreement.

Sizes are log-uniform, every switch of a family is thrown, and each case depends only on the seed of the draw and its
own number, so that any one can be made again. Work is capped, so that a case takes seconds: what is above the cap is
drawn again, and counted, with its size. `python -m tests.calibration.draw --cases 1000` tells how many that are.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np

from faceoff.core.spec import (
    MODEL_KINDS,
    OPTIMISERS,
    DenseSpec,
    LstmSpec,
    ModelSpec,
    Optimiser,
    ResidualSpec,
    RnnSpec,
    Workload,
)
from faceoff.workloads.situations import EVERYDAY, SITUATIONS, SMALL_RATE
from faceoff.workloads.task import Task
from faceoff.workloads.work import count_work

# Of a training step: the reference takes some five seconds for nine passes over three of them. Time steps of all layers
# are capped too, as their arrays may be tiny and still take a millisecond each.
MOST_FLOPS = 1.5e8
MOST_STEPS = 1000
# The share of a dtype among all checks; the wide ones are what most people use.
DTYPES = {"float64": 0.3, "float32": 0.35, "bfloat16": 0.13, "float16": 0.12, "mixed_bfloat16": 0.1}
DTYPES_OF_A_MODEL = 2
# `one-example` needs another build; batches of one are drawn anyway.
DRAWN_SITUATIONS = tuple(name for name in SITUATIONS if name != "one-example")
STRESS_SHARE = 0.3
BIG_ENOUGH_FOR_FLOAT16, FEW_ENOUGH_FOR_BFLOAT16 = 1e-6, 0.99


@dataclass(frozen=True)
class Drawn:
    """One model as it was drawn, in each dtype that it is checked in.

    Args:
        seed, number: of the draw, and of the case in it.
        workloads: one for each dtype; optimiser constants are drawn anew for each, within what the dtype can hold.
        tasks: situation and seed of each task.
        rejected: what was above the cap on work before, as `name: operations of a training step`.
    """

    seed: int
    number: int
    workloads: tuple[Workload, ...]
    tasks: tuple[tuple[str, int], ...]
    rejected: tuple[str, ...]

    @property
    def name(self) -> str:
        """What `--again` begins with."""
        return f"{self.seed}/{self.number}"

    def generator(self, purpose: int) -> np.random.Generator:
        """Chance for anything else that belongs to this case."""
        return np.random.default_rng([self.seed, self.number, purpose])


def draw(seed: int, number: int, tasks: int = 8) -> Drawn:
    """Case `number` of the draw.

    Args:
        seed: of the draw.
        number: of the case; families take turns.
        tasks: how many pairs of situation and seed; the first is everyday.
    """
    rng = np.random.default_rng([seed, number])
    kind, rejected = kind_of(number), []
    while True:
        workload = Workload(draw_model(kind, rng), log_uniform(rng, 1, 256), step="training")
        if within_cap(workload):
            break
        rejected.append(f"{workload.model.label}-b{workload.batch_size}: {count_work(workload).flops:.1e}")
    slow = rng.random() < STRESS_SHARE
    names = list(DTYPES)
    chosen = rng.choice(len(names), DTYPES_OF_A_MODEL, replace=False, p=list(DTYPES.values()))
    workloads = tuple(
        workload.replace(dtype=names[index], optimiser=draw_optimiser(rng, names[index], slow))
        for index in sorted(chosen)
    )
    possible = [
        name
        for name in DRAWN_SITUATIONS
        # At a larger rate it would be another program than the one that is built.
        if SITUATIONS[name].applies(workload.model) and (slow or name != "large")
    ]
    others = [str(name) for name in rng.choice(possible, tasks - 1)]
    seeds = [int(value) for value in rng.integers(0, 2**31, tasks)]
    return Drawn(seed, number, workloads, tuple(zip([EVERYDAY, *others], seeds, strict=True)), tuple(rejected))


def kind_of(number: int) -> str:
    """The family of case `number`."""
    return MODEL_KINDS[number % len(MODEL_KINDS)]


def task_of(workload: Workload, situation: str, seed: int) -> Task:
    """One task of a case."""
    return SITUATIONS[situation].task(workload, seed)


def within_cap(workload: Workload) -> bool:
    """Whether the reference is done with a task in seconds."""
    spec = workload.model
    steps = spec.num_layers * spec.sequence_length if isinstance(spec, (RnnSpec, LstmSpec)) else 0
    return count_work(workload).flops <= MOST_FLOPS and steps <= MOST_STEPS


def log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number; each size as likely between 1 and 2 as between 2 and 4."""
    return min(high, int(np.exp(rng.uniform(np.log(low), np.log(high + 1)))))


def _spread(rng: np.random.Generator, low: float, high: float) -> float:
    # Three digits, so that a command that names it is short.
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")


def _yes(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)


def draw_model(kind: str, rng: np.random.Generator) -> ModelSpec:
    """A model of a family, of any size that users have."""
    layers = int(rng.integers(1, 4))
    classes = log_uniform(rng, 2, 128)
    activation = "relu" if _yes(rng) else "tanh"
    if kind == "dense":
        return DenseSpec(tuple(log_uniform(rng, 1, 512) for _ in range(layers + 1)), activation)
    if kind == "residual":
        height = log_uniform(rng, 4, 64)
        width = height if _yes(rng) else log_uniform(rng, 4, 64)
        widths = tuple(log_uniform(rng, 2, 64) for _ in range(layers))
        epsilon, momentum = _spread(rng, 1e-6, 1e-2), _spread(rng, 0.003, 1.0)
        channels, blocks = log_uniform(rng, 1, 4), int(rng.integers(1, 4))
        return ResidualSpec(height, width, channels, widths, blocks, classes, epsilon, momentum)
    inputs, hidden, steps = log_uniform(rng, 1, 512), log_uniform(rng, 1, 512), log_uniform(rng, 1, 1000)
    many = _yes(rng)
    if kind == "rnn":
        return RnnSpec(inputs, hidden, classes, steps, layers, many, activation)
    return LstmSpec(inputs, hidden, classes, steps, layers, many)


def draw_optimiser(rng: np.random.Generator, dtype: str, slow: bool) -> Optimiser:
    """An optimiser whose constants a dtype can hold.

    Args:
        rng: chance.
        dtype: of the weights.
        slow: at a rate at which large gradients leave the weights where they are.
    """
    kind = str(rng.choice(OPTIMISERS))
    rate = _spread(rng, SMALL_RATE / 100, SMALL_RATE) if slow else _spread(rng, SMALL_RATE, 0.1)
    beta2 = 1 - _spread(rng, 1e-4, 0.1)
    epsilon = _spread(rng, 1e-10, 1e-3)
    if dtype == "float16":
        epsilon = max(epsilon, BIG_ENOUGH_FOR_FLOAT16)
    if dtype == "bfloat16":
        beta2 = min(beta2, FEW_ENOUGH_FOR_BFLOAT16)
    momentum, beta1 = (float(f"{rng.uniform(low, 0.99):.3g}") for low in (0.0, 0.5))
    return Optimiser(kind, rate, momentum, beta1, float(f"{beta2:.5g}"), epsilon, round(rng.uniform(0, 0.1), 3))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    cases = [draw(asked.seed, number) for number in range(asked.cases)]
    rejected = [entry for case in cases for entry in case.rejected]
    print(f"{len(cases)} cases; {len(rejected)} above {MOST_FLOPS:g} operations or {MOST_STEPS} time steps:")
    families = Counter(entry.partition("-")[0] for entry in rejected)
    print(", ".join(f"{kind} {count}" for kind, count in families.most_common()))
    largest = max((float(entry.rpartition(": ")[2]) for entry in rejected), default=0.0)
    print(f"the largest of them: {largest:.1e} operations")
    for case in cases[:12]:
        print(case.name, case.workloads[0].name, *(workload.dtype for workload in case.workloads[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
