"""Pairs of runs to compare, summarised by the real statistics, for the tests of `faceoff diff`."""

from __future__ import annotations

import math
import random

import numpy as np

from faceoff.results.agreements import Agreement
from faceoff.results.records import Result
from faceoff.speed.measure import summarise
from faceoff.speed.rounds import Rounds
from tests.unit.results.samples import MODELS, case, contender, empty, quantities, workload

CONTENDERS = ("pytorch:eager", "pytorch:compile", "jax:jit")
RNN, LSTM = MODELS[2:]


def speeds(rng, times_s, processes=3, passes=12):
    """Speeds of contenders as a run summarises them: processes differ by 0.5 %, rounds by 2 %."""
    measured = {}
    for name, time_s in times_s.items():
        measured[name] = []
        for _ in range(processes):
            level = math.log(time_s) + 0.005 * rng.standard_normal()
            durations_s = np.exp(level + 0.02 * rng.standard_normal(passes))
            measured[name].append(
                Rounds(
                    4,
                    5,
                    time_s,
                    durations_s=durations_s.tolist(),
                    taken_s=[0.0] * passes,
                    waiting_s=[0.0] * passes,
                    broken=[False] * passes,
                    calls_s=[np.array(durations_s)],
                )
            )
    return summarise(measured)


def run_of(seed, factors=None, common=1.0, passes=12, processes=3, **changes) -> Result:
    """A run of an RNN and an LSTM, checked and timed: `factors` by model and contender, `common` for all."""
    rng = np.random.default_rng(seed)
    result = empty(contenders=[contender(name) for name in CONTENDERS], **changes)
    for model in (RNN, LSTM):
        result.agreements += [agreement(name, model) for name in CONTENDERS]
        times_s = {
            name: 0.01 * place * common * (factors or {}).get((model, name), 1.0)
            for place, name in enumerate(CONTENDERS, 1)
        }
        for name, speed in speeds(rng, times_s, processes, passes).items():
            timed = case(name, workload(model), speed.time_s, random.Random(0))
            timed.speed = speed
            result.cases.append(timed)
    return result


def agreement(name, model, units=0.7) -> Agreement:
    """A check that agrees, all of whose quantities are so many noise units off."""
    found = quantities("precision", random.Random(0))
    for quantity in found:
        quantity.noise_units = units
    return Agreement(
        workload=workload(model, "training").to_json(),
        contender=name,
        check="precision",
        outcome="ok",
        quantities=found,
    )


def find(result, model, name):
    """The case of a contender on a model."""
    return next(c for c in result.cases if c.contender == name and c.parsed_workload().model == model)
