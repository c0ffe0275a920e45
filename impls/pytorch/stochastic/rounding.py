"""How far a result is off: random roundings of a dtype, with its range."""

from __future__ import annotations

import math

import numpy as np
import torch

from .draws import Draws, DrawsByValue

DTYPES = ("float64", "float32", "bfloat16", "float16")


class Rounding:
    """Disturbs float64 tensors as if their numbers were rounded to `dtype`.

    Args:
        dtype: one of `DTYPES`.
        unit_roundoff: the largest relative error of one rounding; None: that of `dtype`. 0.0 disturbs nothing.
        seed: of the draws.
        alike: equal results get equal draws.

    Attributes:
        unit_roundoff: as above, u.
        below_one: the largest number of the dtype below one.
        met_limits: whether a number was met for which the range of the dtype mattered, or how many digits it has.
        rng: for whatever else is drawn.
    """

    def __init__(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool = False) -> None:
        limits = torch.finfo(getattr(torch, dtype))
        own = limits.eps / 2
        self.unit_roundoff = own if unit_roundoff is None else unit_roundoff
        self.below_one, self.met_limits = 1 - own, False
        # Float16's results are rounded to its finest spacing; other dtypes' small ones may be taken for zero.
        self._rounds_small = dtype == "float16"
        least = 2.0**-25 if self._rounds_small else limits.smallest_normal
        # Disturbances that are made smaller than roundings are so there too, and no larger one exceeds the number.
        self._lost_below = least * (self.unit_roundoff / own)
        self._lost_share = min(1.0, self.unit_roundoff / own)
        # From here on what a relative error of u is hides what the smallest numbers do.
        self._near = least / own
        self._largest = limits.max
        self._whole_up_to = 1 / own
        self.rng = np.random.default_rng(seed)
        self._draws: Draws | DrawsByValue = Draws(self.rng, self.unit_roundoff)
        if alike:
            self._draws = DrawsByValue(self.rng, self.unit_roundoff, every_bit=dtype == "float64")

    def draw(self) -> float:
        """The relative error of one rounding: u * uniform(-1, 1)."""
        return self.unit_roundoff * float(self.rng.uniform(-1, 1))

    def elementwise(self, values: torch.Tensor, units: float = 1.0) -> torch.Tensor:
        """Multiplies each element by 1 + units * u * uniform(-1, 1), in place; returns `values`.

        What is below the smallest normal number of the dtype may vanish, and what is too large is infinite. A whole
        number that the dtype holds is exact: nothing else comes out as one, and indices are computed so.

        Args:
            values: float64, any shape.
            units: the largest error, in unit roundoffs.
        """
        if not self.unit_roundoff or not values.numel():
            return values
        draws = self._draws.of(values)
        if (whole := self._whole(values)) is not None:
            draws = draws.masked_fill(whole, 0.0)
        if self._is_ordinary(values):
            return values.addcmul_(values, draws, value=units)
        size = values.abs()
        lost = (size * self._lost_share).clamp_(max=self._lost_below)
        error = torch.maximum(lost, size * (units * self.unit_roundoff))
        return self._shift(values, error.mul_(draws).div_(self.unit_roundoff))

    def sums(
        self,
        values: torch.Tensor,
        terms: int | torch.Tensor,
        roots: torch.Tensor,
        least: torch.Tensor | None = None,
        times: float = 1.0,
    ) -> torch.Tensor:
        """Adds the rounding of a running sum, in place; returns `values`.

        Each of the n partial sums S_k is off by a relative u * uniform(-1, 1), of variance u^2 / 3. A random walk that
        ends at S has sum(S_k^2) = n * (2 * S^2 + sum(t_k^2)) / 6 in the mean. So terms of one sign, whose partial sums
        grow all the way, count for more than terms that cancel. Libraries that sum in blocks stay below this.

        Args:
            values: the sums S, float64, any shape.
            terms: their number of roundings n; one number, or one for each sum.
            roots: the root of the sum of the squared terms t_k of each.
            least: of the standard deviation of each; in the unit of `values`.
            times: how many times as large it is.
        """
        if not self.unit_roundoff or not values.numel():
            return values
        count = torch.as_tensor(terms, dtype=torch.float64)
        ordinary = self._is_ordinary(values, float(count.max()))
        # In units of the sum of two draws, of variance 2/3 u^2.
        deviation = torch.hypot(values * math.sqrt(2), roots).mul_((count / 12).sqrt() * times)
        if not ordinary:
            most = ((count / 3).sqrt() if self._rounds_small else count) * self._lost_below
            # Squares in float32 lose what is small beside others; no sum exceeds that of its terms' sizes.
            sizes = torch.maximum(count.sqrt() * roots, values.abs())
            lost = torch.minimum(sizes * self._lost_share, most)
            deviation = torch.maximum(deviation, lost * (math.sqrt(1.5) / self.unit_roundoff))
        if least is not None:
            deviation = torch.maximum(deviation, least * (math.sqrt(1.5) / self.unit_roundoff))
        deviation.mul_(self._draws.of_sums(values, roots))
        if (whole := self._whole(values)) is not None:
            deviation.masked_fill_(whole, 0.0)
        return values.add_(deviation) if ordinary else self._shift(values, deviation)

    def _shift(self, values: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Adds `shift` and fits the result into the range, in place; what is infinite or no number stays so."""
        values.add_(shift.masked_fill_(~torch.isfinite(values), 0.0))
        size = values.abs()
        if not float(size.max()) <= self._largest:
            values.copy_(torch.where(size > self._largest, values * math.inf, values))
        if self._rounds_small:
            # No disturbance makes a value zero, and by a root or a quotient a zero is far from it.
            values.masked_fill_(size < self._lost_below, 0.0)
        return values

    def _whole(self, values: torch.Tensor) -> torch.Tensor | None:
        """Which elements are whole numbers that the dtype holds, zero aside; None where the first one is none."""
        first = values[(0,) * values.dim()].item()
        if not first.is_integer():
            return None
        size = values.abs()
        held = size <= self._whole_up_to
        self.met_limits |= not bool(held.all())
        return (size == size.floor()) & (size > 0) & held

    def _is_ordinary(self, values: torch.Tensor, terms: float = 1.0) -> bool:
        """Whether the range of the dtype does not matter to sums of so many terms."""
        if self._rounds_small:
            self.met_limits = True
            return False  # It has so few exponents that values of everyday size meet its smallest number.
        size = values.abs()
        smallest, largest = (float(value) for value in torch.aminmax(size))
        if smallest == 0 and largest > 0:
            smallest = float(torch.where(size > 0, size, math.inf).min())
        ordinary = largest <= self._largest and (largest == 0 or smallest >= self._near * max(1.0, terms))
        self.met_limits |= not ordinary
        return ordinary


def relative_squares(x: torch.Tensor, narrow: bool = True) -> tuple[torch.Tensor, float]:
    """The squares of `x` over its largest element, whose range they might leave otherwise; and that element.

    Args:
        x: float64, any shape.
        narrow: in float32, in which a product takes half the time: plenty for a level of noise.
    """
    largest = float(x.abs().max()) if x.numel() else 0.0
    if largest == 0 or not math.isfinite(largest):
        largest = 1.0
    relative = x / largest
    return (relative.float() if narrow else relative).square_(), largest


def roots_of(squares: torch.Tensor, scale: float) -> torch.Tensor:
    """`scale` times the roots, float64, of what convolutions may make a trifle less than zero."""
    return squares.double().clamp_(min=0.0).sqrt_().mul_(scale)
