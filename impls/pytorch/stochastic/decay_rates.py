"""The decay rates of optimisers as frameworks hold them: rounded to the working dtype, where 1 - beta loses digits."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .rounding import Rounding

# What `torch.optim` calls them; one or several.
NAMES = ("betas", "alpha", "rho")


class Rate(float):
    """A rounded rate. Its powers are of one that is rounded anew, and as a dtype holds them: no rate is one or more.

    With the very rate of the moments the error of a bias correction would cancel, and frameworks that round the rate in
    the corrections alone would have no noise to be measured by.

    Args:
        value: the rate.
        rounding: draws.
    """

    def __new__(cls, value: float, rounding: Rounding) -> Rate:
        rate = super().__new__(cls, value)
        rate._rounding = rounding
        return rate

    def __pow__(self, exponent: Any, modulus: None = None) -> Any:
        draw = self._rounding.draw
        return min((float(self) * (1 + draw())) ** exponent * (1 + 2 * draw()), self._rounding.below_one)


class DecayRates:
    """While it is entered, optimisers step with rounded rates, each the same in all steps.

    Args:
        rounding: of the rates.
    """

    def __init__(self, rounding: Rounding) -> None:
        self._rounding = rounding
        self._rounded: dict[float, float] = {}
        self._exact: list[tuple[dict[str, Any], str, Any]] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> DecayRates:
        self._hooks = [
            register_optimizer_step_pre_hook(self._replace),
            register_optimizer_step_post_hook(self._put_back),
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        self._put_back()

    def with_powers(self, constants: dict[str, Any]) -> dict[str, Any]:
        """The constants of a step that is one operation, whose rates came through as plain numbers."""
        rates = {name: Rate(value, self._rounding) for name, value in constants.items() if name in ("beta1", "beta2")}
        return {**constants, **rates}

    def _replace(self, optimiser: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimiser.param_groups:
            for name in NAMES:
                value = group.get(name)
                several = isinstance(value, (list, tuple))
                if not all(isinstance(rate, float) for rate in (value if several else [value])):
                    continue
                self._exact.append((group, name, value))
                group[name] = tuple(map(self._round, value)) if several else self._round(value)

    def _round(self, rate: float) -> Rate:
        if rate not in self._rounded:
            self._rounded[rate] = min(rate * (1 + self._rounding.draw()), self._rounding.below_one)
        return Rate(self._rounded[rate], self._rounding)

    def _put_back(self, *_: Any) -> None:
        while self._exact:
            group, name, value = self._exact.pop()
            group[name] = value
