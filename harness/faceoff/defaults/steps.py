"""Measures the defaults of optimisers, from their steps over known gradients."""

from __future__ import annotations

from functools import partial

from faceoff.defaults.asking import Asker, RefusalError
from faceoff.defaults.atlas import Finding
from faceoff.defaults.fitting import Fit, FitError
from faceoff.defaults.optimisers import RULES, fit_optimiser, fit_rate, known_gradients, known_rates

OPTIMISER = "optimiser"


def measure_optimisers(asker: Asker) -> None:
    """Constants and formulas where a learning rate is given; then the learning rate where none is."""
    start, gradients = known_gradients(asker.seed)
    rules, rates = asker.observed.rules, known_rates()
    rules["sgd"] = RULES["sgd"]["w -= rate * g"]
    fits: dict[str, Fit | FitError | RefusalError] = {}
    for name in ("momentum", "nesterov", "adam", "adamw", "rmsprop"):
        try:
            found = asker.ask("optimiser", name=name, start=start, gradients=gradients, rates=rates)
            fits[name] = fit = fit_optimiser(name, found["parameters"], start, gradients, rates)
            rules[name] = (RULES[name][fit.form][0], fit.constants)
        except (FitError, RefusalError) as error:
            fits[name] = error

    def rate(name: str) -> Finding:
        found = asker.ask("optimiser", name=name, start=start, gradients=gradients, rates=None)
        if name not in rules:
            raise FitError("its formula is not known", where=f"{name} learning rate")
        fit = fit_rate(name, rules[name], found["parameters"], start, gradients)
        value = fit.constants["rate"]
        return Finding(words=f"{value:.4g}", numbers={"rate": value, "prediction_error": fit.error})

    for name in ("sgd", "adam", "adamw", "rmsprop"):
        asker.note(OPTIMISER, f"{name} learning rate", partial(rate, name))

    def noted(word: str, name: str, constant: str | None) -> None:
        def find() -> Finding:
            fit = fits[name]
            if not isinstance(fit, Fit):
                raise fit
            numbers = {"prediction_error": fit.error}
            if constant is None:
                return Finding(words=fit.form, numbers=numbers)
            return Finding(
                words=f"{fit.constants[constant]:.4g}", numbers={constant: fit.constants[constant], **numbers}
            )

        asker.note(OPTIMISER, word, find)

    noted("momentum formula", "momentum", None)
    noted("nesterov formula", "nesterov", None)
    for constant in ("beta1", "beta2", "epsilon"):
        noted(f"adam {constant}", "adam", constant)
    noted("adam epsilon is added", "adam", None)
    for constant in ("epsilon", "weight_decay"):
        noted(f"adamw {constant.replace('_', ' ')}", "adamw", constant)
    for constant in ("decay", "epsilon"):
        noted(f"rmsprop {constant}", "rmsprop", constant)
    noted("rmsprop epsilon is added", "rmsprop", None)
