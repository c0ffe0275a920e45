"""Measures how new layers are initialised, and which gate of a recurrent layer is where, and with which formula."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial

import numpy as np

from faceoff.defaults.asking import Arrays, Asker
from faceoff.defaults.atlas import Finding
from faceoff.defaults.fitting import FitError, Sample, fit_family, fit_variance

INITIALISATION, RECURRENT = "initialisation", "recurrent"
# Sizes at which fan-in, fan-out and their sum grow apart; large enough to tell a constant within about a per cent.
DENSE_SIZES = ((16, 4000), (64, 4000), (1000, 100))
CONVOLUTION_SIZES = ((16, 500, 3), (32, 100, 5), (8, 2000, 3))
EMBEDDING_SIZES = ((500, 200), (4000, 30))
RECURRENT_SIZES = ((64, 100), (200, 100), (50, 200))
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
GATE_NAMES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
ORTHOGONAL_ERROR = 1e-4


def describe_draws(samples: Sequence[Sample], where: str) -> Finding:
    """Family, and how the variance follows the sizes, of one kind of weight at several sizes.

    Raises:
        FitError: the draws follow no known family, or no one size.
    """
    everything = np.concatenate([sample.values.ravel() for sample in samples]).astype(np.float64)
    numbers = {
        "mean": float(everything.mean()),
        "std": float(everything.std()),
        "low": float(everything.min()),
        "high": float(everything.max()),
    }
    if numbers["low"] == numbers["high"]:
        return Finding(words=f"all {numbers['low']:g}", numbers=numbers)
    if len(np.unique(everything)) <= 2:
        low, high = np.unique(everything)
        share = float(np.mean(everything == high))
        return Finding(words=f"{high:g} in {Fraction(share).limit_denominator(8)} of them, {low:g} in the rest",
                       numbers=numbers)  # fmt: skip
    standard_error = numbers["std"] / math.sqrt(everything.size)
    if abs(numbers["mean"]) > 5 * standard_error:
        raise FitError("the mean is not 0", where=where, got=f"{numbers['mean']:.3g}")
    scaled = [np.asarray(s.values, dtype=np.float64) / np.sqrt(np.mean(np.square(s.values))) for s in samples]
    family = fit_family(np.concatenate([values.ravel() for values in scaled]), where)
    divisor, constant = fit_variance(samples, where)
    numbers["variance_constant"] = constant
    return Finding(words=f"{family}, {_spread(family, divisor, constant)}", numbers=numbers)


def _spread(family: str, divisor: str, constant: float) -> str:
    """Bounds of a uniform family, such as `±sqrt(6 / (fan_in + fan_out))`, else the standard deviation."""
    above = 3 * constant if family == "uniform" else constant
    sign = "±" if family == "uniform" else "std "
    if divisor == "1":
        return f"{sign}{math.sqrt(above):.3g}"
    below = f"({divisor})" if "+" in divisor or "*" in divisor else divisor
    return f"{sign}sqrt({above:.3g} / {below})"


# So often draws that fit nothing are drawn again: a form that is not known fits none of them, and chance lasts for one.
ATTEMPTS = 3
# Between the seeds of attempts there is room for one seed a size.
STRIDE = 16
MOST_SEEDS = 2**31

Divisors = Mapping[str, float]
Draws = list[tuple[Divisors, Arrays]]


def draws_of(seed: int, ask: Callable[[int, int], Arrays], divisors: Sequence[Divisors]) -> Callable[[int], Draws]:
    """New layers of each size by the number of the attempt, each made once.

    Every size has a seed of its own: with one for all a framework gives every size the same numbers to begin with, and
    what looks like many draws are few.

    Args:
        seed: of the first size of the first attempt.
        ask: for a layer, by the number of its size and its seed.
        divisors: of each size, what its variance may be divided by.
    """

    @functools.cache
    def draw(attempt: int) -> Draws:
        first = seed + attempt * STRIDE
        return [(sizes, ask(index, (first + index) % MOST_SEEDS)) for index, sizes in enumerate(divisors)]

    return draw


def find_steadily(find: Callable[[int], Finding]) -> Finding:
    """What an attempt finds, the next one where its draws fit nothing; raises the last one's FitError."""
    for attempt in range(ATTEMPTS - 1):
        with suppress(FitError):
            return find(attempt)
    return find(ATTEMPTS - 1)


def measure_initialisation(asker: Asker) -> None:
    """Kernels and biases of new layers: family, spread, dependence on the sizes, orthogonality."""

    def dense(index: int, seed: int) -> Arrays:
        a, b = DENSE_SIZES[index]
        return asker.ask("dense", inputs=a, outputs=b, seed=seed)

    def convolution(index: int, seed: int) -> Arrays:
        a, b, size = CONVOLUTION_SIZES[index]
        return asker.ask("convolution", inputs=a, outputs=b, kernel_size=size, seed=seed)

    def embedding(index: int, seed: int) -> Arrays:
        a, b = EMBEDDING_SIZES[index]
        return asker.ask("embedding", inputs=a, outputs=b, seed=seed)

    divisors = [{"fan_in": a, "fan_out": b, "fan_in + fan_out": a + b} for a, b in DENSE_SIZES]
    _note_parts(asker, "dense", draws_of(asker.seed, dense, divisors))
    divisors = []
    for a, b, size in CONVOLUTION_SIZES:
        fan_in, fan_out = a * size**2, b * size**2
        divisors.append({"fan_in": fan_in, "fan_out": fan_out, "fan_in + fan_out": fan_in + fan_out, "channels in": a})
    _note_parts(asker, "convolution", draws_of(asker.seed, convolution, divisors))
    tables = draws_of(asker.seed, embedding, [{"rows": a, "size": b, "rows + size": a + b} for a, b in EMBEDDING_SIZES])
    find = partial(_describe_part, tables, "kernel", "embedding")
    asker.note(INITIALISATION, "embedding table", lambda: find_steadily(find))
    for kind in GATES:
        _measure_recurrent(asker, kind)


def _describe_part(draw: Callable[[int], Draws], part: str, where: str, attempt: int) -> Finding:
    return describe_draws([Sample(arrays[part], divisors) for divisors, arrays in draw(attempt)], where)


def _note_parts(asker: Asker, layer: str, draw: Callable[[int], Draws]) -> None:
    draw(0)
    for part in ("kernel", "bias"):
        find = partial(_describe_part, draw, part, f"{layer} {part}")
        asker.note(INITIALISATION, f"{layer} {part}", partial(find_steadily, find))


def ask_recurrent(asker: Asker, kind: str, inputs: int, hidden: int, seed: int, batch_size: int = 1) -> Arrays:
    """A new recurrent layer and one step of it over seeded inputs, which are in the answer as `x`, `h`, `c`."""
    rng = np.random.default_rng(seed)
    given = {
        name: rng.standard_normal((batch_size, size)).astype(np.float32)
        for name, size in (("x", inputs), ("h", hidden), ("c", hidden))
    }
    return {**given, **asker.ask("recurrent", kind=kind, inputs=inputs, hidden=hidden, seed=seed, **given)}


def _measure_recurrent(asker: Asker, kind: str) -> None:
    gates, divisors = GATES[kind], []
    for inputs, hidden in RECURRENT_SIZES:
        sizes = {"inputs": inputs, "hidden": hidden, "inputs + hidden": inputs + hidden}
        if gates > 1:
            sizes[f"inputs + {gates} * hidden"] = inputs + gates * hidden
        divisors.append(sizes)
    draw = draws_of(asker.seed, lambda index, seed: ask_recurrent(asker, kind, *RECURRENT_SIZES[index], seed), divisors)
    found = draw(0)
    find = partial(_describe_part, draw, "input_kernel", f"{kind} input kernel")
    asker.note(INITIALISATION, f"{kind} input kernel", partial(find_steadily, find))

    def recurrent_kernel(attempt: int) -> Finding:
        orthogonal = find_orthogonality(draw(attempt)[0][1]["recurrent_kernel"], gates)
        if orthogonal:
            return orthogonal
        samples = [Sample(arrays["recurrent_kernel"], {"hidden": d["hidden"]}) for d, arrays in draw(attempt)]
        return describe_draws(samples, f"{kind} recurrent kernel")

    def bias(attempt: int) -> Finding:
        names = sorted(name for name in found[0][1] if name.startswith("bias."))
        samples = [
            Sample(np.concatenate([arrays[name] for name in names]), {"inputs": d["inputs"], "hidden": d["hidden"]})
            for d, arrays in draw(attempt)
        ]
        return describe_draws(samples, f"{kind} bias")

    asker.note(INITIALISATION, f"{kind} recurrent kernel", partial(find_steadily, recurrent_kernel))
    asker.note(INITIALISATION, f"{kind} bias", partial(find_steadily, bias))
    count = sum(name.startswith("bias.") for name in found[0][1])
    words = f"{count} bias vector" + ("s" if count != 1 else "")
    asker.note(RECURRENT, f"{kind} biases", lambda: Finding(words=words, numbers={"biases": count}))
    if kind in GATE_NAMES:
        measure_gates(asker, kind)


def find_orthogonality(kernel: np.ndarray, gates: int) -> Finding | None:
    """Whether a kernel `(gates * hidden, hidden)` is orthogonal as a whole, or gate by gate; None when neither."""
    whole = kernel.astype(np.float64)
    blocks = np.split(whole, gates)
    error = orthogonality_error(whole)
    if error < ORTHOGONAL_ERROR and gates == 1:
        return Finding(words="orthogonal", numbers={"orthogonality_error": error})
    each = max(orthogonality_error(block) for block in blocks)
    numbers = {"orthogonality_error": error, "orthogonality_error_by_gate": each, "std": float(whole.std())}
    if each < ORTHOGONAL_ERROR:
        return Finding(words="orthogonal, each gate by itself", numbers=numbers)
    if error < ORTHOGONAL_ERROR:
        return Finding(words="orthogonal, all gates together", numbers=numbers)
    return None


def orthogonality_error(matrix: np.ndarray) -> float:
    """Largest distance of the columns' products `(columns, columns)` from the unit matrix."""
    return float(np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max())


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


GATE_FUNCTIONS = {
    "sigmoid": _sigmoid,
    "hard_sigmoid, slope 0.2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid, slope 1/6": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}


def find_gates(kind: str, step: Arrays) -> tuple[str, tuple[str, ...], str]:
    """Order of the gates, formula and gate activation of one measured step, among all that are possible.

    Args:
        kind: `lstm` or `gru`.
        step: weights, inputs `x`, `h`, `c` and the new `hidden`, as `ask_recurrent` gives them.

    Returns:
        The formula in words (of the GRU: where the reset gate acts, and what the update gate keeps), the gate of every
        block, and the gates' activation.

    Raises:
        FitError: none explains the step, or more than one does.
    """
    exact = {name: value.astype(np.float64) for name, value in step.items()}
    names = GATE_NAMES[kind]
    by_input, by_state = exact["x"] @ exact["input_kernel"].T, exact["h"] @ exact["recurrent_kernel"].T
    biases = [exact[name] for name in sorted(exact) if name.startswith("bias.")]
    by_input = by_input + (biases[0] if biases else 0)
    by_state = by_state + (biases[1] if len(biases) > 1 else 0)
    hidden = exact["h"].shape[1]
    explained = []
    for order, (activation, function) in itertools.product(itertools.permutations(names), GATE_FUNCTIONS.items()):
        block = {gate: slice(index * hidden, (index + 1) * hidden) for index, gate in enumerate(order)}
        inputs = {gate: by_input[:, part] for gate, part in block.items()}
        states = {gate: by_state[:, part] for gate, part in block.items()}
        if kind == "lstm":
            total = {gate: inputs[gate] + states[gate] for gate in names}
            cell = function(total["f"]) * exact["c"] + function(total["i"]) * np.tanh(total["g"])
            candidates = {"": function(total["o"]) * np.tanh(cell)}
        else:
            r, z = (function(inputs[gate] + states[gate]) for gate in ("r", "z"))
            before = (r * exact["h"]) @ exact["recurrent_kernel"][block["n"]].T
            resets = {"after the product": r * states["n"], "before the product": before}
            candidates = {}
            for reset, value in resets.items():
                n = np.tanh(inputs["n"] + value)
                candidates[f"reset {reset}; z keeps the old state"] = (1 - z) * n + z * exact["h"]
                candidates[f"reset {reset}; z takes the new state"] = z * n + (1 - z) * exact["h"]
        for words, value in candidates.items():
            if np.abs(value - exact["hidden"]).max() < 1e-5:
                explained.append((words, order, activation))
    if len(explained) != 1:
        raise FitError("the step of the gates", where=kind, got=f"{len(explained)} explanations", expected="one")
    return explained[0]


def measure_gates(asker: Asker, kind: str) -> None:
    """Order and activation of the gates; the forget gate's bias of the LSTM, the reset of the GRU."""
    # Kernels of a few inputs are large, so that a sigmoid and its straight-line forms lie far apart.
    step = ask_recurrent(asker, kind, 3, 4, asker.seed, batch_size=16)
    asker.note(RECURRENT, f"{kind} gate order", lambda: Finding(words=", ".join(find_gates(kind, step)[1])))
    asker.note(RECURRENT, f"{kind} gate activation", lambda: Finding(words=find_gates(kind, step)[2]))
    if kind == "gru":
        asker.note(RECURRENT, "gru formula", lambda: Finding(words=find_gates(kind, step)[0]))
        return

    def forget() -> Finding:
        large = ask_recurrent(asker, kind, 8, 1000, asker.seed)
        index = find_gates(kind, step)[1].index("f")
        bias = sum(np.split(large[name], 4)[index] for name in large if name.startswith("bias."))
        values = np.asarray(bias, dtype=np.float64)
        mean, std = float(values.mean()), float(values.std())
        if std == 0:
            words = f"{mean:g}"
        elif abs(mean) < 5 * std / math.sqrt(values.size):
            words = "random around 0"
        else:
            words = f"random around {mean:.2g}"
        return Finding(words=words, numbers={"mean": mean, "std": std})

    asker.note(RECURRENT, "lstm forget-gate bias", forget)


def canonical_recurrent(kind: str, found: Arrays, order: Sequence[str]) -> Arrays:
    """Weights in the canonical layout: gates i, f, g, o, and one bias, the sum of all."""
    names = GATE_NAMES.get(kind, ("h",))
    places = [tuple(order).index(name) for name in names]
    bias = np.sum([value for name, value in found.items() if name.startswith("bias.")], axis=0)

    def reorder(values: np.ndarray) -> np.ndarray:
        blocks = np.split(values.astype(np.float64), len(names))
        return np.concatenate([blocks[place] for place in places])

    return {
        "weight_ih": reorder(found["input_kernel"]),
        "weight_hh": reorder(found["recurrent_kernel"]),
        "bias": reorder(bias),
    }
