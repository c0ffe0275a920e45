"""Update rules with every constant open: fitted to a framework's steps, then used to train the reference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from faceoff.defaults.fitting import Constants, Fit, Form, fit_forms

State = dict[str, np.ndarray]
Rule = Callable[[Constants, State, np.ndarray, np.ndarray, float, int], np.ndarray]
"""`(constants, state, weights, gradient, rate, step) -> weights`, steps counted from 1; the state starts empty."""

STEPS = 16


def _carried(state: State, name: str, keep: float, new: np.ndarray) -> np.ndarray:
    """keep * (what the state holds, zeros at first) + new, which the state then holds."""
    state[name] = np.asarray(keep * state[name] + new) if name in state else new
    return state[name]


def _sgd(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    return w - rate * g


def _velocity(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    v = _carried(state, "v", k["momentum"], g)
    return w - rate * v


def _damped(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    v = _carried(state, "v", k["momentum"], (1 - k["momentum"]) * g)
    return w - rate * v


def _displacement(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    v = _carried(state, "v", k["momentum"], -rate * g)
    return np.asarray(w + v)


def _nesterov_velocity(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    v = _carried(state, "v", k["momentum"], g)
    return w - rate * (g + k["momentum"] * v)


def _nesterov_displacement(k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    v = _carried(state, "v", k["momentum"], -rate * g)
    return w + k["momentum"] * v - rate * g


def _adam(place: str, k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    """Kingma and Ba 2015, with epsilon in one of four places; weight decay apart from the gradient if there is one."""
    beta1, beta2, epsilon = k["beta1"], k["beta2"], k["epsilon"]
    m = _carried(state, "m", beta1, (1 - beta1) * g)
    v = _carried(state, "v", beta2, (1 - beta2) * g**2)
    correction = 1 - beta2**t
    if place == "to the corrected root":
        root = np.sqrt(v / correction) + epsilon
    elif place == "to the uncorrected root":
        root = (np.sqrt(v) + epsilon) / np.sqrt(correction)
    elif place == "inside the corrected root":
        root = np.sqrt(v / correction + epsilon)
    else:
        root = np.sqrt((v + epsilon) / correction)
    return w - rate * (m / (1 - beta1**t) / root + k.get("weight_decay", 0.0) * w)


def _rmsprop(inside: bool, k: Constants, state: State, w: np.ndarray, g: np.ndarray, rate: float, t: int) -> np.ndarray:
    """Tieleman and Hinton 2012."""
    v = _carried(state, "v", k["decay"], (1 - k["decay"]) * g**2)
    return w - rate * g / (np.sqrt(v + k["epsilon"]) if inside else np.sqrt(v) + k["epsilon"])


ADAM_PLACES = (
    "to the corrected root", "to the uncorrected root", "inside the corrected root", "inside the uncorrected root",
)  # fmt: skip
_ADAM_START = {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-7}
RULES: dict[str, dict[str, tuple[Rule, Constants]]] = {
    "momentum": {
        "v = momentum * v + g; w -= rate * v": (_velocity, {"momentum": 0.5}),
        "v = momentum * v + (1 - momentum) * g; w -= rate * v": (_damped, {"momentum": 0.5}),
        "v = momentum * v - rate * g; w += v": (_displacement, {"momentum": 0.5}),
    },
    "nesterov": {
        "v = momentum * v + g; w -= rate * (g + momentum * v)": (_nesterov_velocity, {"momentum": 0.5}),
        "v = momentum * v - rate * g; w += momentum * v - rate * g": (_nesterov_displacement, {"momentum": 0.5}),
    },
    "adam": {place: (partial(_adam, place), _ADAM_START) for place in ADAM_PLACES},
    "adamw": {place: (partial(_adam, place), {**_ADAM_START, "weight_decay": 0.001}) for place in ADAM_PLACES},
    "rmsprop": {
        "to the root": (partial(_rmsprop, False), {"decay": 0.8, "epsilon": 1e-7}),
        "inside the root": (partial(_rmsprop, True), {"decay": 0.8, "epsilon": 1e-7}),
    },
    "sgd": {"w -= rate * g": (_sgd, {})},
}
"""The forms that are known for each word: rule, and constants to start the search with."""


def walk(rule: Rule, constants: Constants, start: np.ndarray, gradients: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Parameters before and after every step, `(steps + 1, count)`."""
    state: State = {}
    found = [start]
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        found.append(rule(constants, state, found[-1], gradient, rate, step))
    return np.stack(found)


def known_gradients(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Start `(count,)` and gradients `(steps, count)` that tell the constants apart.

    From 1 down to 1e-9, since an epsilon shows where the gradient is about as small; one that stops after its first
    step, which shows how fast each average forgets. The last parameter starts at 1 and has no gradient: only a weight
    decay moves it. The others start at 0, where increments keep all their digits.
    """
    rng = np.random.default_rng(seed)
    sizes = np.array([1, 1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 0])
    gradients = sizes * (1 + 0.5 * rng.uniform(-1, 1, (STEPS, len(sizes))))
    gradients[1:, 1] = 0
    start = np.zeros(len(sizes))
    start[-1] = 1
    return start, gradients


def known_rates() -> np.ndarray:
    """Learning rates `(STEPS,)` that change twice, in each half once: a velocity shows then what it holds."""
    rates = np.full(STEPS, 0.001)
    rates[STEPS // 4 : 3 * STEPS // 4] = 0.0005
    return rates


# Constants may be taken to float32 on the way: 1 - beta2 keeps five digits. The forms lie a thousand times apart.
TOLERANCE = 1e-4


def fit_optimiser(
    word: str, parameters: np.ndarray, start: np.ndarray, gradients: np.ndarray, rates: np.ndarray
) -> Fit:
    """Form and constants of the optimiser that made `parameters`.

    Args:
        word: key of `RULES`.
        parameters: as measured, `(steps + 1, count)`.
        start, gradients: what it was given.
        rates: the learning rate of every step.

    Raises:
        FitError: it follows no known form.
    """

    def form(rule: Rule, constants: Constants) -> Form:
        return Form(lambda found: np.diff(walk(rule, found, start, gradients, rates), axis=0), constants)

    forms = {name: form(rule, constants) for name, (rule, constants) in RULES[word].items()}
    return fit_forms(forms, np.diff(parameters, axis=0), f"{word} steps", TOLERANCE)


def fit_rate(
    word: str, known: tuple[Rule, Constants], parameters: np.ndarray, start: np.ndarray, gradients: np.ndarray
) -> Fit:
    """The learning rate that an optimiser of known rule and constants has by itself, as `rate`.

    Raises:
        FitError: no one rate explains `parameters`.
    """
    rule, constants = known

    def predict(found: Constants) -> np.ndarray:
        rates = np.full(len(gradients), found["rate"])
        return np.diff(walk(rule, constants, start, gradients, rates), axis=0)

    forms = {word: Form(predict, {"rate": 0.003})}
    return fit_forms(forms, np.diff(parameters, axis=0), f"{word} learning rate", TOLERANCE)
