"""What becomes of each operation of a program that runs in stochastic arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from faceoff.core.spec import require_choice

from . import products, sums
from .complex_numbers import COMPLEX, TRANSFORMS, transform
from .decay_rates import DecayRates
from .operations import (
    EXACT,
    ONCE,
    RANDOM,
    TWICE,
    VIEWS_IN_PLACE,
    functional_twin,
    is_complex,
    is_exact_here,
    is_in_place,
    is_view,
    kind_of,
    name_of,
    outputs_of,
    rounds_wide,
    tensors_in,
)
from .optimisers import FUSED, one_by_one
from .rewritten import (
    BAG_MODES,
    MAXIMUM,
    REWRITTEN,
    WIDE_STATISTICS,
    convolution,
    convolution_backward,
    prims_sum,
    scatter_reduce,
)
from .rounding import DTYPES, Rounding

RULES: dict[str, Callable[..., Any]] = {
    "mm": products.matrices,
    "bmm": products.matrices,
    "convolution": products.convolution,
    "convolution_backward": products.convolution_backward,
    "sum": sums.total,
    "cumsum": sums.running,
    "prod": sums.product,
    "cumprod": sums.running_product,
    "_adaptive_avg_pool2d_backward": sums.adaptive_average_backward,
    "_adaptive_avg_pool3d_backward": sums.adaptive_average_backward,
    **{name: partial(sums.average, axes=axes) for name, axes in sums.AVERAGES.items()},
    **{f"{name}_backward": partial(sums.average, axes=axes, backward=True) for name, axes in sums.AVERAGES.items()},
}
"""What disturbs a result that is a sum, by the name of the operation; `sums.SCATTERS` aside."""


WIDE = {
    torch.float32: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float16: torch.float64,
    torch.complex64: torch.complex128,
}
"""In what a dtype is computed that is imitated, or that rounds finer."""


class Stochastic(TorchDispatchMode):
    """Disturbs what each operation of a PyTorch program returns by a random rounding of `dtype`.

    ```
    with Stochastic("float32", unit_roundoff=2.0**-40, seed=1):
        loss = module(x).sum()
        loss.backward()
    ```

    Everything runs in float64: the module, its inputs, and what the program would cast to `dtype` or finer, or makes
    in PyTorch's default dtype. Composite operations are taken apart, below autograd, so that forward pass, backward
    pass and optimiser steps are treated alike. The noise model is that of `faceoff.reference.rounding.Rounded`: an
    elementwise result is off by a relative u * uniform(-1, 1), twice that for mathematical functions; a sum or product
    of n terms by the rounding of a running sum; numbers that leave the range of `dtype` may vanish or are infinite.

    The noise is the spread of runs around one with `unit_roundoff=0.0`: plain kernels hold constants in float32, which
    differ from those of the same operations taken apart. With 2^-40 and the spread times u / 2^-40, no ReLU or maximum
    decides otherwise than undisturbed; with the roundoff of the dtype itself, those do that rounding decides.

    Limits: parts of a program in another narrow dtype than `dtype` round by themselves and are told in `whole`; in a
    bfloat16 program parts in float32 count as bfloat16. Of float64 itself the noise is coarse, as nothing finer carries
    it: give 2^-40. It serves tensors of the CPU, in eager mode.

    Args:
        dtype: whose rounding is imitated: `float64`, `float32`, `bfloat16` or `float16`.
        unit_roundoff: the largest relative error of a rounding, instead of that of `dtype`; its range, the smallest
            and largest numbers, stays that of `dtype`. 0.0: the same operations undisturbed.
        seed: of the disturbance; the program's own random numbers are what they are without it.
        alike: equal results are rounded alike, as in every dtype. Of many equal numbers, as in blank pictures, or where
            one thing is computed twice, errors then add up, which draws of their own average out; and the largest of
            equal numbers is the same one as undisturbed. The larger of both noises is what an implementation may be
            off by.

    Attributes:
        seen: how often each operation was met, after all were taken apart, by name.
        whole: those that could not be taken apart, by name, with their number. They got one rounding only, so their
            noise, and that of all that follows from them, is not to be believed.

    Raises:
        InputError: an unknown dtype.

    Source: Parker 1997, "Monte Carlo arithmetic".
    """

    def __init__(
        self, dtype: str = "float32", unit_roundoff: float | None = None, seed: int = 0, alike: bool = False
    ) -> None:
        super().__init__()
        require_choice(dtype, DTYPES, "stochastic.dtype")
        self._rounding = Rounding(dtype, unit_roundoff, seed, alike)
        self._rates = DecayRates(self._rounding)
        self._is_wide = dtype in ("float64", "float32")
        finest = torch.finfo(getattr(torch, dtype)).eps
        self._widened = {narrow: wide for narrow, wide in WIDE.items() if torch.finfo(narrow).eps <= finest}
        self._default = torch.float64
        self._outside: contextlib.ExitStack | None = None
        self.seen: dict[str, int] = {}
        self.whole: dict[str, int] = {}

    @property
    def met_limits(self) -> bool:
        """Whether numbers were met for which the range of the dtype mattered: in a wider one they round otherwise."""
        return self._rounding.met_limits

    def __enter__(self) -> Stochastic:
        """Begins; attention is no longer one operation, and numbers are made in float64, until it ends."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            stack.enter_context(self._rates)
            stack.enter_context(self._autocast_told())
            self._default = torch.get_default_dtype()
            if self._default in self._widened:
                stack.callback(torch.set_default_dtype, self._default)
                torch.set_default_dtype(torch.float64)
            super().__enter__()
            self._outside = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Ends, and puts back what was changed."""
        outside, self._outside = self._outside, None
        with outside or contextlib.nullcontext():
            super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation: taken apart, or computed and disturbed."""
        name, kwargs = name_of(func), kwargs or {}
        if name == "to":
            return self._again(func.decompose, *args, **kwargs)  # It may be a view, and may not.
        if is_view(func) or name in VIEWS_IN_PLACE:
            return func(*args, **kwargs)
        if name.startswith("_foreach_"):
            return self._again(one_by_one, name, args, kwargs)
        if name in FUSED and kwargs.get("grad_scale") is None and kwargs.get("found_inf") is None:
            return self._again(FUSED[name], *args, **self._rates.with_powers(kwargs))
        if outputs_of(func):
            return self._into(func, args, kwargs)
        if is_in_place(func):
            return self._in_place(func, name, args, kwargs)
        if name in RANDOM:
            # The same numbers as without the mode, and no more digits.
            kwargs = {**kwargs, "dtype": kwargs.get("dtype") or self._default}
            return self._wide(func(*args, **kwargs))
        args, kwargs = self._wide(args), {key: self._wide(value) for key, value in kwargs.items()}
        if rewritten := self._rewritten(func, name, args):
            return self._again(rewritten, *args, **kwargs)
        if name in EXACT:
            return self._exact(func, name, args, kwargs)
        known = name in RULES or name in sums.SCATTERS or name in ONCE or name in TWICE
        if not known and func in decomposition_table:
            return self._again(decomposition_table[func], *args, **kwargs)
        if not known and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            return self._again(func.decompose, *args, **kwargs)
        self.seen[name] = self.seen.get(name, 0) + 1
        if name in TRANSFORMS:
            return transform(self._rounding, func, *args)
        if others := [x for x in tensors_in(args) if not rounds_wide(x)]:
            self._leave_whole(f"{name} in {kind_of(others[0])}")
            return func(*args, **kwargs)
        if name in RULES:
            return RULES[name](self._rounding, func, *args, **kwargs)
        if name in sums.SCATTERS:
            return sums.scattered(self._rounding, func, name, args, kwargs)
        return self._elementwise(func, name, args, kwargs)

    def _elementwise(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What is pointwise, and what nothing is known of."""
        result = func(*args, **kwargs)
        if is_exact_here(name, args, kwargs):
            return result
        made = [x for x in tensors_in([result]) if x.is_floating_point() or x.is_complex()]
        pointwise = name in ONCE or name in TWICE or torch.Tag.pointwise in func.tags
        if made and not (pointwise and all(map(rounds_wide, made))):
            self._leave_whole(name)
        square = name == "pow" and isinstance(args[1], (int, float)) and args[1] in (1, 2)
        for x in filter(rounds_wide, made):
            self._rounding.elementwise(x, 1.0 if name in ONCE or square else 2.0)
        return result

    def _exact(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What needs no rounding, but a cast to another dtype may be one for good."""
        result = func(*args, **kwargs)
        if name in ("_to_copy", "convert_element_type") and result.dtype in WIDE:
            self._leave_whole(f"to {kind_of(result)}")
        if name == "arange" and result.dtype == torch.float64:
            self._rounding.elementwise(result)  # Exact are whole numbers alone.
        return result

    def _rewritten(self, func: Any, name: str, args: Any) -> Callable[..., Any] | None:
        """As what else it is to be computed."""
        if name in COMPLEX and any(map(is_complex, args)):
            return COMPLEX[name]
        if func.namespace == "prims" and name == "sum":
            return prims_sum
        if name in WIDE_STATISTICS and self._is_wide:
            return WIDE_STATISTICS[name]
        if name == "convolution":
            return None if args[2] is None else convolution
        if name == "convolution_backward":
            return convolution_backward if args[-1][2] else None
        if name == "scatter_reduce":
            return scatter_reduce if args[4] in ("sum", "mean") else None
        if name in BAG_MODES and args[BAG_MODES[name] :][:1] == (MAXIMUM,):
            return None
        return REWRITTEN.get(name)

    def _in_place(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """As its functional twin, and a copy."""
        changed, twin = args[0], functional_twin(func)
        if name.removesuffix("_") in EXACT:
            return func(*args, **kwargs)
        if not isinstance(changed, torch.Tensor) or twin is None:
            if any(x.is_floating_point() or x.is_complex() for x in tensors_in([changed])):
                self._leave_whole(name)
            return func(*args, **kwargs)
        if changed.dtype in WIDE.values() or changed.dtype in self._widened:
            changed.copy_(self._again(twin, *args, **kwargs))
        else:
            func(*args, **kwargs)
        self._tell_of_rounded(name, changed)
        return changed

    def _into(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What is written where the program says, as its functional twin, and copies."""
        names, twin = outputs_of(func), functional_twin(func)
        if twin is None:
            self._leave_whole(name_of(func))
            return func(*args, **kwargs)
        targets = [kwargs[key] for key in names]
        others = {key: value for key, value in kwargs.items() if key not in names}
        found = self._again(twin, *args, **others)
        for target, value in zip(targets, found if len(targets) > 1 else [found], strict=True):
            target.resize_(value.shape).copy_(value)
            self._tell_of_rounded(name_of(func), target)
        return targets[0] if len(targets) == 1 else tuple(targets)

    @contextlib.contextmanager
    def _autocast_told(self) -> Iterator[None]:
        """Autocast leaves float64 alone: the noise is not of what it makes of float32, and no operation shows it."""
        enable = torch.set_autocast_enabled

        def noted(*arguments: Any) -> None:
            if arguments[-1] and torch.get_autocast_dtype("cpu") not in self._widened:
                self._leave_whole("autocast")
            enable(*arguments)

        if torch.is_autocast_enabled("cpu"):
            noted("cpu", True)
        torch.set_autocast_enabled = noted
        try:
            yield
        finally:
            torch.set_autocast_enabled = enable

    def _tell_of_rounded(self, name: str, changed: torch.Tensor) -> None:
        """Tells of what has been written where numbers are narrow: it is rounded for good, unless they are whole."""
        if changed.is_floating_point() and changed.dtype != torch.float64 and not torch.equal(changed, changed.round()):
            self._leave_whole(f"{name} in {kind_of(changed)}")

    def _leave_whole(self, name: str) -> None:
        self.whole[name] = self.whole.get(name, 0) + 1

    def _wide(self, value: Any) -> Any:
        """Tensors and dtypes that are computed in float64 instead, also inside lists; anything else unchanged."""
        if isinstance(value, torch.Tensor):
            if value._is_zerotensor():
                value = value.clone()  # A derivative that is zero has no memory of its own.
            return value.to(self._widened[value.dtype]) if value.dtype in self._widened else value
        if isinstance(value, torch.dtype):
            return self._widened.get(value, value)
        if isinstance(value, (list, tuple)) and any(isinstance(part, (torch.Tensor, torch.dtype)) for part in value):
            return type(value)(self._wide(part) for part in value)
        return value

    def _again(self, compute: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Computes something whose operations the mode sees; it is off while it handles one."""
        with self._seen_again():
            return compute(*args, **kwargs)

    @contextlib.contextmanager
    def _seen_again(self) -> Iterator[None]:
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)
