"""Recovers constants and forms from measured arrays. What fits no known form is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from faceoff.core.errors import HarnessError

Constants = dict[str, float]


class FitError(HarnessError):
    """Measured values that no known form explains, or that two forms explain equally well."""


@dataclass(frozen=True)
class Form:
    """A formula with unknown constants.

    Args:
        predict: the values `(steps, ...)` that given constants lead to.
        start: the constants to begin the search with. `beta1`, `beta2`, `momentum` and `decay` lie below 1.
    """

    predict: Callable[[Constants], np.ndarray]
    start: Constants


@dataclass(frozen=True)
class Fit:
    """The form that explains the measured values.

    Args:
        form: its name.
        constants: by name.
        error: largest relative error on the steps that were not fitted.
    """

    form: str
    constants: Constants
    error: float


def fit_forms(forms: Mapping[str, Form], observed: np.ndarray, where: str, tolerance: float = 1e-5) -> Fit:
    """Fits every form on the first half of the steps and keeps the one that predicts the second half.

    Args:
        forms: by name.
        observed: `(steps, ...)`, at least four steps.
        where: what is fitted, for the error.
        tolerance: largest relative error that the prediction of the later steps may have. Errors are relative to each
            value, but to no less than 1e-9 of the largest one: below that float32 constants have no digits left.

    Raises:
        FitError: no form predicts the later steps, or more than one does.
    """
    half = len(observed) // 2
    scale = np.maximum(np.abs(observed), 1e-9 * np.abs(observed).max() + 1e-300)
    fits = []
    for name, form in forms.items():
        constants = _least_squares(form, observed[:half], scale[:half])
        # Constants of a form that does not fit may lead anywhere.
        with np.errstate(all="ignore"):
            error = float(np.abs((form.predict(constants)[half:] - observed[half:]) / scale[half:]).max())
        fits.append(Fit(name, constants, error if math.isfinite(error) else math.inf))
    fits.sort(key=lambda fit: fit.error)
    if fits[0].error > tolerance:
        raise FitError(
            "no known form predicts the later steps",
            where=where,
            got=f"error {fits[0].error:.2g} of '{fits[0].form}'",
            expected=f"at most {tolerance:g}",
            next_step="the framework may have changed its formula: add it to the forms",
        )
    if len(fits) > 1 and fits[1].error <= tolerance:
        raise FitError("two forms explain it", where=where, got=f"'{fits[0].form}' and '{fits[1].form}'")
    return fits[0]


def _below_one(name: str) -> bool:
    return name in ("beta1", "beta2", "momentum", "decay")


def _least_squares(form: Form, observed: np.ndarray, scale: np.ndarray, iterations: int = 200) -> Constants:
    """Levenberg (1944) and Marquardt (1963), in log(constant), or log(1 - constant) for those below 1.

    The best of several starts, since an epsilon may be off by many powers of ten.
    """
    names = list(form.start)
    if not names:
        return {}

    def constants(theta: np.ndarray) -> Constants:
        grown = np.exp(np.clip(theta, -60, 60))
        return {name: float(1 - g if _below_one(name) else g) for name, g in zip(names, grown, strict=True)}

    def residual(theta: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            found = (form.predict(constants(theta))[: len(observed)] - observed) / scale
        return np.asarray(np.clip(np.nan_to_num(found, nan=1e6), -1e6, 1e6)).ravel()

    best_theta, best = np.zeros(len(names)), math.inf
    for factor in (1.0, 1e-3, 1e3):
        start = {name: value * factor if "epsilon" in name else value for name, value in form.start.items()}
        theta = np.array([math.log(1 - value if _below_one(name) else value) for name, value in start.items()])
        now, damping = residual(theta), 1e-2
        for _ in range(iterations):
            jacobian = np.stack([(residual(theta + step) - now) / 1e-6 for step in 1e-6 * np.eye(len(theta))], axis=1)
            normal = jacobian.T @ jacobian
            step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal) + 1e-12), -jacobian.T @ now)[0]
            step = np.clip(step, -2, 2)
            after = residual(theta + step)
            gain = 1 - (after @ after) / (now @ now) if now @ now else 0.0
            if gain > 0:
                theta, now, damping = theta + step, after, damping / 5
                if gain < 1e-6:
                    break
            else:
                damping *= 10
                if damping > 1e6:
                    break
        if now @ now < best:
            best_theta, best = theta, float(now @ now)
        if best < 1e-8 * len(now):
            break
    return constants(best_theta)


def fit_epsilon(normal: np.ndarray, centred: np.ndarray, variance: np.ndarray, where: str) -> float:
    """The epsilon of normal = centred / sqrt(variance + epsilon).

    Args:
        normal, centred: `(n, groups)`. variance: `(groups,)`, of which some are about as small as epsilon may be.

    Raises:
        FitError: one epsilon does not explain all groups.
    """
    largest = np.argmax(np.abs(centred), axis=0)
    columns = np.arange(len(variance))
    total = (centred[largest, columns] / normal[largest, columns]) ** 2
    # float32 leaves the sum some 1e-6 of itself uncertain: the group with the smallest variance tells most.
    epsilon = float((total - variance)[np.argmin(variance)])
    predicted = centred / np.sqrt(variance + epsilon) if epsilon > -variance.min() else np.full_like(normal, np.inf)
    error = float(np.abs(predicted - normal).max() / np.abs(normal).max())
    if not error < 1e-4:
        raise FitError("no one epsilon explains it", where=where, got=f"error {error:.2g}", expected="below 1e-4")
    return epsilon


NORMAL_CUT = 2.0
CONSTANT_SPREAD = 1e-12


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def _truncated_cdf(x: np.ndarray) -> np.ndarray:
    # Cut at two standard deviations of the parent, which leaves 0.8796 of its standard deviation.
    mass = math.erf(NORMAL_CUT / math.sqrt(2))
    density = math.exp(-(NORMAL_CUT**2) / 2) / math.sqrt(2 * math.pi)
    spread = math.sqrt(1 - 2 * NORMAL_CUT * density / mass)
    below = _normal_cdf(np.clip(x * spread, -NORMAL_CUT, NORMAL_CUT))
    return np.asarray((below - (1 - mass) / 2) / mass)


FAMILIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda x: np.clip(0.5 + x / math.sqrt(12), 0, 1),
    "normal": _normal_cdf,
    "normal cut at 2 std": _truncated_cdf,
}
"""Cumulative distributions with mean 0 and variance 1."""


def fit_family(values: np.ndarray, where: str) -> str:
    """The family of a sample with mean 0, by the Kolmogorov-Smirnov distance after scaling to variance 1.

    Args:
        values: at least a few hundred, any shape; `constant` when they are all the same.

    Raises:
        FitError: the nearest family is farther away than 2 / sqrt(n), where chance reaches about once in 3,000.
    """
    flat = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if flat[-1] - flat[0] <= CONSTANT_SPREAD:
        return "constant"
    flat = flat / math.sqrt(float(np.mean(flat**2)))
    every = np.unique(np.linspace(0, len(flat) - 1, 4000).astype(int))
    share = (every + 0.5) / len(flat)
    distances = {name: float(np.abs(cdf(flat[every]) - share).max()) for name, cdf in FAMILIES.items()}
    name = min(distances, key=lambda family: distances[family])
    limit = 2 / math.sqrt(len(flat))
    if distances[name] > limit:
        raise FitError(
            "no known distribution",
            where=where,
            got=f"distance {distances[name]:.3g} from '{name}'",
            expected=f"at most {limit:.3g}",
        )
    return name


@dataclass(frozen=True)
class Sample:
    """The draws of one size.

    Args:
        values: any shape.
        divisors: what the variance may be divided by at this size, such as `{"fan_in": 64}`.
    """

    values: np.ndarray
    divisors: Mapping[str, float]


def fit_variance(samples: Sequence[Sample], where: str) -> tuple[str, float]:
    """The divisor d and the constant k of variance = k / d over several sizes; `1` is the divisor of no dependence.

    k is given as a fraction with a denominator up to 6 where one lies within four standard errors.

    Raises:
        FitError: no divisor explains all sizes within four standard errors, or more than one does.
    """
    counts = np.array([sample.values.size for sample in samples])
    variances = np.array([np.mean(np.square(sample.values, dtype=np.float64)) for sample in samples])
    fourth = np.array([np.mean(np.asarray(sample.values, dtype=np.float64) ** 4) for sample in samples])
    errors = np.sqrt(np.maximum(fourth - variances**2, 0) / counts) / variances
    fitting = {}
    for name in ("1", *samples[0].divisors):
        sizes = np.array([1.0 if name == "1" else sample.divisors[name] for sample in samples])
        constants = variances * sizes
        weights = 1 / errors**2
        constant = float(np.sum(weights * constants) / np.sum(weights))
        if np.all(np.abs(constants / constant - 1) <= 4 * errors):
            fitting[name] = (constant, 4 / math.sqrt(float(np.sum(weights))))
    if len(fitting) != 1:
        raise FitError(
            "the variance follows no one size", where=where, got=", ".join(fitting) or "none of the known divisors"
        )
    ((name, (constant, error)),) = fitting.items()
    simple = Fraction(constant).limit_denominator(6)
    exact = simple > 0 and abs(constant / float(simple) - 1) <= error
    return name, float(simple) if exact else constant
