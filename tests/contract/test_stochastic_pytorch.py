"""The rounding noise of PyTorch programs: every construct is told of, and real errors in float32 are as large.

The programs are `pytorch_programs`; what is found of each, once, is `Measured`.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.optim import optimizer as hooks

from faceoff.core.errors import InputError
from impls.pytorch.stochastic import Stochastic, mode, sums
from impls.pytorch.stochastic.operations import EXACT, ONCE, TWICE
from impls.pytorch.stochastic.rewritten import REWRITTEN
from tests.contract.pytorch_noise import RUNS, SCALE, UNIT_ROUNDOFF, Example, Values, difference, rms
from tests.contract.pytorch_programs import PROGRAMS

# Of an error of float32 to its noise: what is right stays below.
MOST, LEAST_IN_THE_MEDIAN = 4.0, 0.01


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Measured(NamedTuple):
    """What was found of a program.

    Attributes:
        plain: what it returns in float64.
        centre: the same taken apart, undisturbed.
        noise: the rms of each quantity over all elements and runs, in float32.
        errors: the rms error of each quantity in float32.
        whole: what could not be taken apart.
    """

    plain: Values
    centre: Values
    noise: dict[str, float]
    errors: dict[str, float]
    whole: dict[str, int]


@functools.cache
def measured(name: str) -> Measured:
    example = Example(PROGRAMS[name])
    plain, narrow = example.run(torch.float64), example.run(torch.float32)
    apart = Stochastic(unit_roundoff=0.0)
    centre = example.run(torch.float64, apart)
    disturbed = [Stochastic(unit_roundoff=UNIT_ROUNDOFF, seed=seed) for seed in range(RUNS)]
    runs = [example.run(torch.float64, mode) for mode in disturbed]
    noise = {key: SCALE * rms(run[key] - centre[key] for run in runs) for key in centre}
    errors = {key: rms([narrow[key] - plain[key]]) for key in plain}
    return Measured(plain, centre, noise, errors, {**apart.whole, **disturbed[0].whole})


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_taken_apart_wholly_and_means_the_same(name: str) -> None:
    found = measured(name)
    assert found.whole == {}
    assert found.centre.keys() == found.plain.keys()
    for key, plain in found.plain.items():
        # What cancels, as the gradient by a bias before batch norm, is as large as its noise in float64.
        size = max(float(plain.nan_to_num(0.0, 0.0, 0.0).abs().max()), found.noise[key] / 2.0**-24)
        assert difference(found.centre[key], plain) <= PROGRAMS[name].close * size, key


@pytest.mark.parametrize("name", PROGRAMS)
def test_errors_of_float32_are_no_larger_than_its_noise(name: str) -> None:
    found = measured(name)
    for key, error in found.errors.items():
        assert error <= MOST * found.noise[key], key


def test_the_noise_is_not_much_larger_than_errors_of_float32() -> None:
    ratios = []
    for found in map(measured, PROGRAMS):
        ratios += [error / found.noise[key] for key, error in found.errors.items() if found.noise[key]]
    assert len(ratios) > 100
    assert statistics.median(ratios) > LEAST_IN_THE_MEDIAN


def rms_in(example: Example, dtype: str, unit_roundoff: float | None = None) -> tuple[Values, dict[str, float]]:
    """The undisturbed values, and the rms noise of `dtype` in its own unit."""
    centre = example.run(torch.float64, Stochastic(dtype, 0.0))
    runs = [example.run(torch.float64, Stochastic(dtype, unit_roundoff, seed)) for seed in range(RUNS)]
    return centre, {key: rms(run[key] - centre[key] for run in runs) for key in centre}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["dense", "LSTM layers in both directions", "Transformer", "batch norm"])
def test_errors_of_narrow_dtypes_are_no_larger_than_their_noise_and_far_larger_than_that_of_float32(
    name: str, dtype: str
) -> None:
    example = Example(PROGRAMS[name], dtype=dtype)
    centre, noise = rms_in(example, dtype)
    narrow = example.run(getattr(torch, dtype))
    for key, value in centre.items():
        error = rms([narrow[key] - value])
        assert error <= MOST * noise[key], key
        assert error > MOST * measured(name).noise[key], key


def test_noise_is_in_proportion_to_the_unit_roundoff() -> None:
    for key, noise in rms_in(Example(PROGRAMS["Transformer"]), "float32")[1].items():
        assert noise == pytest.approx(measured("Transformer").noise[key], rel=1e-3)


@pytest.mark.parametrize("width", [4, 64])
def test_a_norm_is_as_far_off_as_one_whose_variance_is_by_the_plain_formula(width: int) -> None:
    """Flax's norms take that one, which is far off where the mean is far larger than the spread."""
    generator = torch.Generator().manual_seed(1)
    x = (20 + torch.randn(512, width, generator=generator)).double()

    def normed(unit_roundoff: float, seed: int = 0) -> torch.Tensor:
        with Stochastic("float32", unit_roundoff, seed):
            return torch.nn.functional.layer_norm(x, (width,))

    exact = normed(0.0)
    runs = torch.stack([normed(UNIT_ROUNDOFF, seed) - exact for seed in range(1, RUNS + 1)])
    noise = SCALE * float(runs.square().mean().sqrt())
    narrow = x.float()
    middle = narrow.mean(1, keepdim=True)
    variance = narrow.square().mean(1, keepdim=True) - middle.square()
    off = (narrow - middle) / (variance + 1e-5).sqrt() - exact
    assert noise / 4 < float(off.square().mean().sqrt()) < 2 * noise


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_statistics_of_complex_numbers_mean_the_same(dtype: str) -> None:
    x = torch.randn(6, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    for compute in (torch.var, torch.std, lambda x: torch.var_mean(x, 1)[0], lambda x: torch.std_mean(x, 0)[1]):
        with Stochastic(dtype, 0.0):
            undisturbed = compute(x)
        with Stochastic(dtype, UNIT_ROUNDOFF):
            disturbed = compute(x)
        torch.testing.assert_close(undisturbed, compute(x), rtol=1e-14, atol=0.0)
        assert not torch.equal(disturbed, undisturbed)
        torch.testing.assert_close(disturbed, undisturbed, rtol=100 * UNIT_ROUNDOFF, atol=0.0)


def test_a_run_is_told_by_its_seed() -> None:
    example = Example(PROGRAMS["recurrent layer"])
    first, again, other = (example.run(torch.float64, Stochastic(seed=seed)) for seed in (1, 1, 2))
    for key, value in first.items():
        assert torch.equal(value, again[key])
        assert not torch.equal(value, other[key])


def test_an_operation_that_nothing_is_known_of_is_told() -> None:
    with Stochastic() as stochastic:
        torch.linalg.inv(torch.eye(3, dtype=torch.float64) * 3)
    assert stochastic.whole == {"linalg_inv_ex": 1}


def test_a_product_that_is_no_longer_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(mode.RULES, "mm")
    with Stochastic() as stochastic:
        nn.Linear(8, 4).double()(torch.ones(2, 8).double())
    assert stochastic.whole == {"mm": 1}
    assert stochastic.seen["mm"] == 1


def test_parts_in_a_narrower_dtype_are_told() -> None:
    x = torch.randn(4, 4, dtype=torch.float64)
    with Stochastic("float32") as stochastic:
        (x.to(torch.bfloat16) @ x.to(torch.bfloat16)).double()
    assert set(stochastic.whole) == {"to bfloat16", "mm in bfloat16"}
    with Stochastic("bfloat16") as stochastic:
        (x.to(torch.bfloat16) @ x.to(torch.bfloat16)).double()
    assert not stochastic.whole


def test_casts_to_the_dtype_itself_do_not_round() -> None:
    x = torch.tensor([1 / 3], dtype=torch.float64)
    z = torch.complex(x, x)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with Stochastic("float32") as stochastic, context():
            assert x.float().dtype == x.to(torch.float32).dtype == (x.float() + 1).dtype == torch.float64
            assert z.to(torch.complex64).dtype == torch.complex128
        assert not stochastic.whole
        with Stochastic("float64") as stochastic, context():
            assert x.float().dtype == torch.float32
        assert stochastic.whole == {"to float32": 1}


def test_random_numbers_are_those_that_the_program_draws_without_it() -> None:
    def drawn() -> list[torch.Tensor]:
        torch.manual_seed(0)
        x = torch.randn(5), torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float32)
        return [*x, torch.empty(4, dtype=torch.float64).normal_(), torch.rand_like(x[1]), torch.randperm(6)]

    plain = drawn()
    with Stochastic():
        inside = drawn()
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


@pytest.mark.parametrize(
    "name", ["Transformer in inference", "LSTM layers in both directions", "batch norm in inference"]
)
def test_what_is_one_kernel_in_inference_mode_is_taken_apart(name: str) -> None:
    torch.manual_seed(0)
    module = PROGRAMS[name].make().double().eval()
    x = torch.randn(*PROGRAMS[name].shapes[0], dtype=torch.float64)
    with torch.inference_mode():
        plain = module(x)
        with Stochastic(unit_roundoff=0.0) as stochastic:
            centre = module(x)
        with Stochastic():
            disturbed = module(x)
    assert not stochastic.whole
    assert difference(centre, plain) < 1e-13
    assert 0 < difference(disturbed, plain) < 1e-5


def test_numbers_written_where_others_are_narrow_are_told() -> None:
    narrow, wide = torch.zeros(3), torch.full((3,), 1 / 3, dtype=torch.float64)
    with Stochastic("float32") as stochastic:
        narrow.add_(1)
    assert not stochastic.whole
    with Stochastic("float32") as stochastic:
        narrow.add_(wide)
    assert stochastic.whole == {"add_ in float32": 1}


def test_autocast_is_told_where_it_is_on() -> None:
    x = torch.randn(4, 4, dtype=torch.float64)
    for options in ({"dtype": torch.bfloat16}, {"enabled": False}):
        with Stochastic() as stochastic, torch.autocast("cpu", **options):
            nn.functional.linear(x, x)
        assert stochastic.whole == ({"autocast": 1} if "dtype" in options else {})


def test_lists_of_operations_do_not_overlap() -> None:
    kinds = [EXACT, ONCE, TWICE, mode.RULES.keys(), sums.SCATTERS.keys(), REWRITTEN.keys()]
    assert sum(map(len, kinds)) == len(set().union(*kinds))
    for name in set().union(*kinds):
        assert hasattr(torch.ops.aten, name) or hasattr(torch.ops.prims, name), name


def state() -> tuple[Any, ...]:
    """What the mode changes while it is entered."""
    cuda = torch.backends.cuda
    attention = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()
    registered = len(hooks._global_optimizer_pre_hooks), len(hooks._global_optimizer_post_hooks)
    return *attention, torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype(), registered


def test_what_it_changes_is_put_back_after_an_error() -> None:
    before = state()
    optimiser = torch.optim.Adam([weight := torch.zeros(3, dtype=torch.float64, requires_grad=True)])
    optimiser.register_step_pre_hook(lambda *_: 1 / 0)
    weight.grad = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ZeroDivisionError), Stochastic():
        optimiser.step()
    assert state() == before
    with Stochastic():
        assert all(during != outside for during, outside in zip(state()[3:], before[3:], strict=True))
    assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)
    assert torch.equal(torch.ones(3) / 3, torch.full((3,), 1 / 3))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="float8"):
        Stochastic("float8")


@pytest.mark.parametrize("name", ["dense", "convolutions of images", "Transformer"])
def test_where_no_results_are_equal_it_is_the_same_noise(name: str) -> None:
    example, found = Example(PROGRAMS[name]), measured(name)
    runs = [example.run(torch.float64, Stochastic("float32", UNIT_ROUNDOFF, seed, alike=True)) for seed in range(RUNS)]
    for key, centre in found.centre.items():
        assert 0.4 < SCALE * rms(run[key] - centre for run in runs) / found.noise[key] < 2.5, key


@pytest.mark.parametrize("optimiser", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"])
@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=["plain", "foreach", "fused"])
def test_steps_of_optimisers_are_disturbed_and_mean_the_same(optimiser: str, how: dict[str, bool]) -> None:
    if how.get("fused") and optimiser in ("RMSprop", "NAdam"):
        pytest.skip("has no fused kernel")
    options = {"momentum": 0.9} if optimiser == "SGD" else {}

    def train(stochastic: Stochastic | None) -> Values:
        """Weights after three steps with clipped gradients."""
        torch.manual_seed(0)
        module = nn.Linear(6, 4).double()
        made = getattr(torch.optim, optimiser)(module.parameters(), lr=0.03, weight_decay=0.01, **options, **how)
        x = torch.randn(5, 6).double()
        with stochastic or torch.enable_grad():
            for _ in range(3):
                made.zero_grad()
                module(x).square().mean().backward()
                nn.utils.clip_grad_norm_(module.parameters(), 0.5)
                made.step()
        assert stochastic is None or not stochastic.whole
        return {name: value.detach() for name, value in module.named_parameters()}

    plain, centre = train(None), train(Stochastic(unit_roundoff=0.0))
    if optimiser != "NAdam":  # See below.
        train(Stochastic("float64"))
    first, second = (train(Stochastic(unit_roundoff=UNIT_ROUNDOFF, seed=seed)) for seed in range(2))
    for name, value in plain.items():
        # NAdam holds a product of decay rates in float32.
        assert difference(centre[name], value) <= (1e-8 if optimiser == "NAdam" else 1e-12)
        assert 2.0**-27 < SCALE * rms([first[name] - second[name]]) / rms([value]) < 2.0**-12


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=["plain", "foreach", "fused"])
def test_no_decay_rate_is_rounded_to_one_or_beyond(how: dict[str, bool]) -> None:
    for seed in range(20):
        weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
        # The largest that bfloat16 takes; four times its roundings would carry it beyond one.
        optimiser = torch.optim.AdamW([weight], betas=(0.9, 0.99), **how)
        with Stochastic("bfloat16", 4 * 2.0**-8, seed):
            for _ in range(3):
                weight.grad = torch.full_like(weight, 0.5)
                optimiser.step()
        assert torch.isfinite(weight).all()


def test_runs_in_a_wider_range_are_the_same_unless_a_limit_was_met() -> None:
    def run(dtype: str, scale: float) -> tuple[torch.Tensor, bool]:
        x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4) + 0.01
        with Stochastic(dtype, UNIT_ROUNDOFF, seed=3) as stochastic:
            return torch.softmax((x @ x.T).tanh(), -1) * scale, stochastic.met_limits

    for scale, meets in ((1e-20, False), (1e-36, True)):
        (narrow, narrow_meets), (wide, wide_meets) = run("float32", scale), run("float64", scale)
        assert (narrow_meets, wide_meets) == (meets, False)
        assert torch.equal(narrow, wide) != meets
    # As many digits as whole numbers have are a limit too.
    large = torch.tensor([2.0**30, 3.0], dtype=torch.float64)
    for dtype, meets in (("float32", True), ("float64", False)):
        with Stochastic(dtype, UNIT_ROUNDOFF, seed=3) as stochastic:
            _ = large + 1.0
        assert stochastic.met_limits == meets
