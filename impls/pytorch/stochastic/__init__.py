"""Stochastic arithmetic for any PyTorch program: the rounding noise of a user's own module, forward and backward.

The spread of several disturbed runs around an undisturbed one is the rounding noise of the program itself (Parker 1997,
"Monte Carlo arithmetic"), in the units in which an implementation elsewhere can be judged. `mode` decides what becomes
of each operation, by the lists of `operations`; `rewritten` takes operations apart, `products` and `sums` know what
their results are sums of, `rounding` disturbs.
"""

from .mode import Stochastic

__all__ = ["Stochastic"]
