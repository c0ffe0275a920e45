"""Fits recover what made synthetic values, and refuse what no known form made."""

import numpy as np
import pytest

from faceoff.defaults.fitting import FitError, Form, Sample, fit_epsilon, fit_family, fit_forms, fit_variance
from faceoff.defaults.optimisers import RULES, fit_optimiser, fit_rate, known_gradients, known_rates, walk

TRUTH = {
    "momentum": {"momentum": 0.87},
    "nesterov": {"momentum": 0.87},
    "adam": {"beta1": 0.93, "beta2": 0.995, "epsilon": 3e-8},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "weight_decay": 0.004},
    "rmsprop": {"decay": 0.95, "epsilon": 2e-8},
}
EVERY_FORM = [(word, form) for word in TRUTH for form in RULES[word]]


def steps_of(word: str, form: str, constants: dict[str, float]) -> np.ndarray:
    start, gradients = known_gradients(0)
    return walk(RULES[word][form][0], constants, start, gradients, known_rates())


@pytest.mark.parametrize(("word", "form"), EVERY_FORM, ids=[f"{word}: {form}" for word, form in EVERY_FORM])
def test_form_and_constants_of_an_optimiser_are_recovered_from_its_steps(word, form):
    start, gradients = known_gradients(0)
    fit = fit_optimiser(word, steps_of(word, form, TRUTH[word]), start, gradients, known_rates())
    assert fit.form == form
    assert fit.constants == pytest.approx(TRUTH[word], rel=1e-4)
    assert fit.error < 1e-4


def test_the_learning_rate_of_a_known_rule_is_recovered():
    start, gradients = known_gradients(0)
    known = (RULES["adam"]["to the corrected root"][0], TRUTH["adam"])
    parameters = walk(*known, start, gradients, np.full(len(gradients), 0.0123))
    assert fit_rate("adam", known, parameters, start, gradients).constants["rate"] == pytest.approx(0.0123, rel=1e-6)


def test_steps_of_another_optimiser_are_refused():
    start, gradients = known_gradients(0)
    signs = start + np.concatenate([[start * 0], np.cumsum(-0.001 * np.sign(gradients), axis=0)])
    for word in TRUTH:
        with pytest.raises(FitError, match="no known form"):
            fit_optimiser(word, signs, start, gradients, known_rates())


def test_a_rule_that_changes_after_the_fitted_steps_is_refused():
    start, gradients = known_gradients(0)
    parameters = steps_of("adam", "to the corrected root", TRUTH["adam"]).copy()
    parameters[-1] += 0.01 * (parameters[-1] - parameters[-2])
    with pytest.raises(FitError, match="no known form"):
        fit_optimiser("adam", parameters, start, gradients, known_rates())


def test_a_constant_learning_rate_cannot_tell_the_velocities_apart_and_says_so():
    start, gradients = known_gradients(0)
    rates = np.full(len(gradients), 0.001)
    rule = RULES["momentum"]["v = momentum * v + g; w -= rate * v"][0]
    with pytest.raises(FitError, match="two forms"):
        fit_optimiser("momentum", walk(rule, {"momentum": 0.9}, start, gradients, rates), start, gradients, rates)


def test_one_form_alone_is_still_refused_when_it_does_not_predict():
    curved = np.arange(1.0, 9.0)[:, np.newaxis] ** 2
    line = Form(lambda k: k["slope"] * np.arange(1.0, 9.0)[:, np.newaxis], {"slope": 1.0})
    with pytest.raises(FitError, match="line"):
        fit_forms({"line": line}, curved, "a parabola")


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1e-5, 1e-3])
def test_epsilon_is_recovered_from_normalised_values(epsilon):
    centred = np.random.default_rng(0).standard_normal((16, 5)) * 10.0 ** np.arange(-3, 2)
    variance = np.mean(centred**2, axis=0)
    normal = centred / np.sqrt(variance + epsilon)
    assert fit_epsilon(normal, centred, variance, "here") == pytest.approx(epsilon, rel=1e-6, abs=1e-12)


def test_an_epsilon_that_is_added_to_the_root_is_refused():
    centred = np.random.default_rng(0).standard_normal((16, 5)) * 10.0 ** np.arange(-3, 2)
    variance = np.mean(centred**2, axis=0)
    with pytest.raises(FitError, match="no one epsilon"):
        fit_epsilon(centred / (np.sqrt(variance) + 1e-3), centred, variance, "here")


def cut_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers drawn again until they lie within 2, scaled to variance 1."""
    drawn = rng.standard_normal((4 * int(np.prod(shape)),))
    return (drawn[np.abs(drawn) < 2][: int(np.prod(shape))] / 0.87962566).reshape(shape)


DRAWS = {
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "normal cut at 2 std": cut_normal,
}


@pytest.mark.parametrize("family", DRAWS)
@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_the_family_of_a_sample_is_found_at_any_scale(family, scale):
    assert fit_family(scale * DRAWS[family](np.random.default_rng(1), (40_000,)), "here") == family


def test_a_family_that_is_not_known_is_refused():
    with pytest.raises(FitError, match="no known distribution"):
        fit_family(np.random.default_rng(0).laplace(size=40_000), "here")


SIZES = ((16, 2000), (64, 2000), (1000, 100))


def draws_with(variance) -> list[Sample]:
    """Uniform draws of the sizes whose variance is a function of fan-in and fan-out."""
    rng = np.random.default_rng(2)
    return [
        Sample(np.sqrt(variance(a, b)) * DRAWS["uniform"](rng, (b, a)), {"fan_in": a, "fan_out": b, "sum": a + b})
        for a, b in SIZES
    ]


@pytest.mark.parametrize(
    ("variance", "expected"),
    [
        (lambda a, b: 1 / (3 * a), ("fan_in", 1 / 3)),
        (lambda a, b: 2 / (a + b), ("sum", 2.0)),
        (lambda a, b: 2 / b, ("fan_out", 2.0)),
        (lambda a, b: 0.05**2 / 3, ("1", 0.05**2 / 3)),
    ],
    ids=["fan_in", "sum", "fan_out", "none"],
)
def test_the_size_that_a_variance_follows_is_found_with_its_constant(variance, expected):
    name, constant = fit_variance(draws_with(variance), "here")
    assert name == expected[0]
    assert constant == pytest.approx(expected[1], rel=0.02)


def test_a_variance_that_follows_no_size_is_refused():
    with pytest.raises(FitError, match="no one size"):
        fit_variance(draws_with(lambda a, b: 1 / np.sqrt(a * b)), "here")
