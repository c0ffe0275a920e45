"""What is expected of a user's own model: a port that is far off is told so by one estimate of the noise."""

from __future__ import annotations

import numpy as np
import pytest

from faceoff.agreement.noise import Values, distances, enlarged, noise_from
from faceoff.agreement.own import OwnExpected, places_of
from faceoff.agreement.quantities import LOSS, OUTPUTS
from faceoff.core.errors import WorkerError
from faceoff.core.spec import DenseSpec, Workload
from faceoff.frameworks.manifest import Offer
from faceoff.pool.worker import Worker
from faceoff.workloads.task import Task

EXACT = {OUTPUTS: np.linspace(-1, 1, 12).reshape(3, 4), LOSS: np.array(0.7)}
GRADIENT = "gradient of 'layer.0.weight'"
ROUNDING = 2.0**-53


class Asked(Exception):
    """The reference's side was asked for more."""


def nobody() -> Worker:
    raise Asked


@pytest.fixture
def expected() -> OwnExpected:
    """Values and the noise in float64 are known; whatever else is wanted is asked for."""
    found = OwnExpected(Task.seeded(Workload(DenseSpec((3, 4)), 3), 0), 0, nobody, "eager")
    exact = {**EXACT, GRADIENT: np.linspace(1, 2, 12).reshape(4, 3)}
    rng = np.random.default_rng(0)

    def run() -> Values:
        return {name: value * (1 + ROUNDING * rng.standard_normal(value.shape)) for name, value in exact.items()}

    found._centre["float64"] = exact
    found._noise["float64", False, 1.0] = noise_from(exact, [distances(exact, run()) for _ in range(8)], "float64")
    return found


class Failing:
    """A reference side that cannot be differentiated."""

    process_id = 0

    def holds(self, workload: object, mode: str) -> bool:
        return False

    def request(self, kind: str, **_: object) -> dict[str, object]:
        if kind == "gradients":
            said = "cannot be differentiated"
            raise WorkerError(said, outcome="disagrees", where="one:eager", request=kind, reason=said, log_tail="log")
        return {"outputs": [None] * 3}


def test_what_the_reference_cannot_do_is_not_held_against_the_other_side():
    task = Task.seeded(Workload(DenseSpec((3, 4)), 3), 0)
    found = OwnExpected(task, 0, Failing, "eager")
    with pytest.raises(WorkerError, match="reference side fails; got cannot be diff") as told:
        found.values("float64")
    assert told.value.outcome == "crashed"
    assert told.value.log_tail == "log"


def off(expected: OwnExpected, name: str, by: float) -> Values:
    exact = expected.values("float64")
    return {**exact, name: exact[name] * (1 + by)}


@pytest.mark.parametrize("name", [OUTPUTS, LOSS])
def test_a_port_that_is_far_off_disagrees_without_another_estimate(expected, name):
    quantities, note = expected.judge(off(expected, name, 1e-2), "float64", Offer())
    assert [quantity.name for quantity in quantities if not quantity.agrees] == [name]
    assert not note


@pytest.mark.parametrize(("by", "asks"), [(1e-2, False), (1e-5, True)])
def test_so_does_one_in_float32(expected, by, asks):
    exact, rng = expected.values("float64"), np.random.default_rng(1)
    runs = [{n: v * (1 + 2.0**-24 * rng.standard_normal(v.shape)) for n, v in exact.items()} for _ in range(8)]
    expected._noise["float32", False, 1.0] = noise_from(exact, [distances(exact, run) for run in runs], "float32")
    got = {name: value.astype(np.float32) for name, value in off(expected, OUTPUTS, by).items()}
    if asks:
        with pytest.raises(Asked):
            expected.judge(got, "float32", Offer())
        return
    quantities, _ = expected.judge(got, "float32", Offer())
    assert [quantity.name for quantity in quantities if not quantity.agrees] == [OUTPUTS]


def test_one_that_is_right_agrees(expected):
    quantities, _ = expected.judge(off(expected, OUTPUTS, ROUNDING), "float64", Offer())
    assert all(quantity.agrees for quantity in quantities)


def test_an_output_that_the_reference_does_not_have_is_told(expected):
    more = {**expected.values("float64"), "output 'states'": np.zeros(3), "output 'states' after a reset": np.zeros(3)}
    quantities, note = expected.judge(more, "float64", Offer())
    assert all(quantity.agrees for quantity in quantities)
    assert note == "not compared, as the reference side does not return it: output 'states'"


@pytest.mark.parametrize(
    ("name", "by"), [(OUTPUTS, 1e-7), (LOSS, 1e-7), (GRADIENT, 1e-3)], ids=["float32", "float32 loss", "gradient"]
)
def test_what_rounding_or_flips_may_explain_is_looked_at_again(expected, name, by):
    with pytest.raises(Asked):
        expected.judge(off(expected, name, by), "float64", Offer())


def test_larger_roundings_are_really_larger_and_runs_in_float32_serve_float64(expected, monkeypatch):
    asked, exact = [], expected.values("float64")

    def run(dtype: str, unit: float, seed: int, alike: bool) -> Values:
        asked.append((dtype, unit))
        rng = np.random.default_rng(seed)
        return {name: value * (1 + unit * rng.standard_normal(value.shape)) for name, value in exact.items()}

    monkeypatch.setattr(expected, "_run", run)
    expected._noise.clear()
    plain = {dtype: expected.noise(dtype) for dtype in ("float32", "float64")}
    assert set(asked) == {("float32", 2.0**-40)}
    # Of float64, what is scaled down is rounded to its own grid.
    for name in exact:
        assert plain["float32"][name].rms == pytest.approx(2.0**29 * plain["float64"][name].rms, rel=0.5)
    asked.clear()
    expected._noise_of("float32", alike=False, times=16.0)
    assert set(asked) == {("float32", 16 * 2.0**-24)}
    # Numbers that met the limits of float32 would round otherwise in float64.
    asked.clear()
    expected._noise.clear()
    expected._met_limits = True
    expected.noise("float64")
    assert set(asked) == {("float64", 2.0**-40)}


def test_runs_are_kept_apart_by_which_values_are_forced():
    value = np.ones(2)
    whole = {"a": {"inputs": [value, value], "outputs": [value]}}
    part = {"a": {"inputs": [value, None], "outputs": [value]}}
    assert places_of(whole) - places_of(part) == {("a", "inputs", 1)}
    assert places_of(part) == {("a", "inputs", 0), ("a", "outputs", 0)}


def test_a_second_moment_of_nothing_but_rounding_grows_with_the_square_of_the_roundings():
    gradient, exact = np.array([3e-12, -1e-12]), np.zeros(2)
    once, name = 1e-3 * gradient**2, "second moment of 'a' after 3 training steps"
    other = "first moment of 'a'"
    few, many = enlarged({name: exact, other: exact}, {name: once, other: gradient}, [8.0, 2.0**16])
    assert few[other].largest == pytest.approx(8 * 3e-12, rel=1e-12)
    assert many[name].largest == pytest.approx(1e-3 * (2.0**16 * 3e-12) ** 2, rel=1e-12)
    # Beside a gradient that is something it grows as everything else does.
    (grown,) = enlarged({name: np.ones(2)}, {name: np.ones(2) + 1e-9}, [100.0])
    assert grown[name].largest == pytest.approx(1e-7, rel=1e-6)
