"""How PyTorch's stochastic arithmetic rounds: equal terms, whole numbers, ReLUs at zero, the range of a dtype."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch

from impls.pytorch.stochastic import Stochastic
from impls.pytorch.stochastic.products import Convolution
from impls.pytorch.stochastic.rounding import Rounding
from tests.contract.pytorch_noise import RUNS, SCALE, UNIT_ROUNDOFF, rms


def test_indices_that_are_computed_are_exact() -> None:
    with Stochastic():
        places = (torch.arange(100) * 3.0 + 1 - torch.full((100,), 2.0)).long()
        count = torch.ones(1000).sum() / 4
    assert places.tolist() == [3 * number - 1 for number in range(100)]
    assert count.item() == 250


def test_roundings_of_equal_terms_add_up() -> None:
    terms = 20_000
    x = torch.full((3, terms), 0.1, dtype=torch.float32)
    means = []
    for seed in range(RUNS):
        with Stochastic(seed=seed):
            means.append(x.double().mean(1))
    runs = [mean - float(x[0, 0]) for mean in means]
    running = torch.from_numpy(x.numpy().T.cumsum(0)[-1] / terms).double()
    assert 0.2 < rms([running - float(x[0, 0])]) / rms(runs) < 4
    # Random roundings of as many terms, each once, are off by less than a tenth of that.
    assert rms(runs) > 10 * 2.0**-24 * 0.1 * math.sqrt(terms / 9)


@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize(
    ("axes", "groups", "stride", "padding", "dilation"), [(1, 2, 2, 1, 1), (2, 1, 1, 0, 2), (3, 2, 1, 1, 1)]
)
def test_terms_of_a_convolution_sum_up_to_its_elements(
    transposed: bool, axes: int, groups: int, stride: int, padding: int, dilation: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, *[7, 6, 8][:axes], dtype=torch.float64)
    weight = torch.randn(*([4, 6 // groups] if transposed else [6, 4 // groups]), *[3] * axes, dtype=torch.float64)
    kind = [stride] * axes, [padding] * axes, [dilation] * axes, transposed, [0] * axes, groups
    y = torch.ops.aten.convolution(x, weight, None, *kind)
    by_x, by_weight, _ = torch.ops.aten.convolution_backward(y, x, weight, None, *kind, [True, True, False])
    convolution, rounding = Convolution(*kind), Rounding("float32", None, 0)
    windows, places, of_windows = (y, x, by_x) if transposed else (x, y, y)
    for terms, whole in (
        (convolution._window_terms(rounding, windows, weight, of_windows.shape[2:]), of_windows),
        (convolution._weight_terms(rounding, windows, places, weight.shape[2:]), by_weight),
    ):
        assert len(terms) == 16
        for total in terms.sum(1):
            assert (whole - total).abs().min() < 1e-12


def spread_of_twins(alike: bool) -> tuple[float, float]:
    """The noise of a mean over equal pictures, and of the difference of what is computed twice, by its own size."""
    x, means, differences = torch.rand(3, dtype=torch.float32).double(), [], []
    for seed in range(RUNS):
        with Stochastic(seed=seed, alike=alike):
            pictures = (x.expand(4096, 3) * 1.1).tanh()
            differences.append((x * 1.7).exp() - (x * 1.7).exp())
        means.append(pictures.mean(0) - (x * 1.1).tanh())
    return rms(means), rms(differences)


def test_equal_results_are_rounded_alike_where_that_is_asked_for() -> None:
    own_mean, own_difference = spread_of_twins(alike=False)
    alike_mean, alike_difference = spread_of_twins(alike=True)
    assert own_difference > 2.0**-24
    assert alike_difference == 0
    assert alike_mean > 20 * own_mean


def test_relus_at_zero_flip_with_the_roundoff_of_the_dtype_alone() -> None:
    x = torch.randn(1000, dtype=torch.float32).double()
    # Zero but for the rounding of the last sum.
    y = x * 3 - (x + x + x)

    def opened(unit_roundoff: float, seed: int) -> torch.Tensor:
        with Stochastic("float32", unit_roundoff, seed):
            return (x * 3 - (x + x + x) + 2.0**-30 > 0).double()

    assert not y.any()
    assert all(opened(UNIT_ROUNDOFF, seed).all() for seed in range(RUNS))
    assert not opened(2.0**-24, 0).all()


@pytest.mark.parametrize("unit_roundoff", [None, UNIT_ROUNDOFF])
def test_numbers_below_the_smallest_normal_one_may_vanish(unit_roundoff: float | None) -> None:
    scale = 1.0 if unit_roundoff is None else SCALE
    x = torch.logspace(-44, -36, 9, dtype=torch.float64)
    # Sums of numbers that may each have vanished.
    for compute in (
        lambda x: x * 3,
        lambda x: torch.stack([x, x]).sum(0),
        lambda x: x[:, None] @ torch.ones_like(x[None]),
    ):
        exact = compute(x).reshape(9, -1)[:, 0]
        runs = []
        for seed in range(RUNS):
            with Stochastic("float32", unit_roundoff, seed):
                runs.append((compute(x).reshape(9, -1)[:, 0] - exact) * scale)
        noise = torch.stack(runs).square().mean(0).sqrt() / exact
        small = exact < 2.0**-126
        assert ((noise[small] > 0.2) & (noise[small] < 2)).all()
        assert (noise[exact > 2.0**-101] < 1e-6).all()


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e20), ("bfloat16", 1e20), ("float16", 1e3)])
def test_numbers_too_large_for_the_dtype_are_infinite(dtype: str, size: float) -> None:
    x = torch.tensor([[size, -size, 1.0]], dtype=torch.float64)
    with Stochastic(dtype):
        products = x * x.abs(), x.T @ x.abs()
    assert products[0].tolist()[0][:2] == [math.inf, -math.inf]
    assert products[1].isinf().sum() == 4
    with Stochastic("float64"):
        assert (x * x).isfinite().all()
