"""The agreement check detects every fault of the catalogue, and says where nearly every one of them is.

Nothing here is simulated: each fault stands in a copy of the implementation, which a real worker loads and the shipped
check judges. The same way of running finds nothing in an unharmed copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from faceoff.results.agreements import Agreement
from tests.meta.faults import jax, jax_habits, pytorch, pytorch_habits, tensorflow, tensorflow_habits
from tests.meta.faults.fault import MODELS, Fault
from tests.meta.faults.runner import Runner, is_installed

pytestmark = pytest.mark.thorough

CATALOGUE = (pytorch, pytorch_habits, tensorflow, tensorflow_habits, jax, jax_habits)
FAULTS = {fault.id: fault for module in CATALOGUE for fault in module.FAULTS}
CONTENDERS = ("pytorch:eager", "tensorflow:eager", "jax:jit")
LEAST_FAULTS = 200
LEAST_PLACED = 0.95
# Another test process keeps the other core busy. JAX, which traces and compiles for each fault, takes longest.
AT_A_TIME = 1
BEGUN_FIRST = ("jax", "pytorch", "tensorflow")


class Check(NamedTuple):
    """What the runner is asked; see `Runner.check`."""

    contender: str
    model: str
    optimiser: str
    dtype: str
    situation: str = "everyday"
    fault: Fault | None = None

    @property
    def framework(self) -> str:
        return self.contender.partition(":")[0]


def check_of(fault: Fault, dtype: str = "") -> Check:
    """The check of an implementation with `fault`, in the dtype in which it shows unless another is given."""
    return Check(fault.contender, fault.model, fault.optimiser, dtype or fault.dtype, fault.situation, fault)


class Catalogue:
    """The verdicts, each found once, in threads that go on to the next check while a test looks at the last verdict.

    Args:
        runner: runs the checks.
        checks: those that tests will ask for. One framework's are made one after the other.
    """

    def __init__(self, runner: Runner, checks: Iterable[Check]) -> None:
        self._runner = runner
        self._verdicts: dict[Check, Future[Agreement]] = {check: Future() for check in checks}
        self._threads = ThreadPoolExecutor(AT_A_TIME)
        for framework in BEGUN_FIRST:
            self._threads.submit(self._judge, framework)

    def verdict(self, check: Check) -> Agreement:
        """What the agreement check says; waits for it. What went wrong instead is raised."""
        return self._verdicts[check].result()

    def close(self) -> None:
        """Ends every process and thread, whatever is left to check."""
        for verdict in self._verdicts.values():
            verdict.cancel()
        self._runner.close()
        self._threads.shutdown()

    def _judge(self, framework: str) -> None:
        for check, verdict in self._verdicts.items():
            if check.framework == framework and verdict.set_running_or_notify_cancel():
                try:
                    verdict.set_result(self._runner.check(*check))
                except BaseException as error:  # for the test that asks
                    verdict.set_exception(error)


def chosen_checks(items: Iterable[pytest.Item]) -> Iterator[Check]:
    """The checks that the chosen tests of this file will ask for, of the frameworks that are installed."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.module.__name__ != __name__:
            continue
        if item.function is test_an_unharmed_copy_agrees:
            checks = [item.callspec.params["check"]]
        elif item.function is test_a_fault_is_detected:
            fault = item.callspec.params["fault"]
            checks = [check_of(fault), check_of(fault, "float64")] if fault.dtype == "float32" else [check_of(fault)]
        elif item.function is test_nearly_every_fault_is_placed:
            checks = [check_of(fault) for fault in FAULTS.values()]
        else:
            continue
        yield from (check for check in checks if is_installed(check.framework))


@pytest.fixture(scope="module")
def catalogue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    checks = dict.fromkeys(chosen_checks(request.session.items))
    catalogue = Catalogue(Runner(tmp_path_factory.mktemp("faults")), checks)
    yield catalogue
    catalogue.close()


def skip_unless_possible(check: Check) -> None:
    if not is_installed(check.framework):
        pytest.skip(f"{check.framework} is not installed")


# As faults are planted: each mode, float32 where only that shows them, large values.
UNHARMED = tuple(
    dict.fromkeys(
        [
            *(Check(contender, model, "sgd", "float64") for contender in CONTENDERS for model in MODELS),
            *(Check(contender, "dense", rule, "float64") for contender in CONTENDERS for rule in ("momentum", "adam")),
            *(
                check_of(fault)._replace(fault=None)
                for fault in FAULTS.values()
                if fault.contender not in CONTENDERS or fault.dtype == "float32" or fault.situation != "everyday"
            ),
        ]
    )
)


@pytest.mark.parametrize("check", UNHARMED, ids=lambda check: "-".join(check[:5]))
def test_an_unharmed_copy_agrees(catalogue, check):
    skip_unless_possible(check)
    agreement = catalogue.verdict(check)
    assert agreement.outcome == "ok", agreement.message or agreement.reason


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_detected(catalogue, fault):
    skip_unless_possible(check_of(fault))
    agreement = catalogue.verdict(check_of(fault))
    # A crash is loud too, but it would not show that the comparison sees anything.
    assert agreement.outcome == "disagrees", agreement.reason or [q.error for q in agreement.quantities]
    if fault.dtype == "float32":
        wider = catalogue.verdict(check_of(fault, "float64"))
        assert wider.outcome == "ok", f"float64 sees it too: {wider.message}"


def test_nearly_every_fault_is_placed(catalogue, record_property, capsys):
    chosen = [f for f in FAULTS.values() if is_installed(check_of(f).framework)]
    if not chosen:
        pytest.skip("no framework is installed")
    verdicts = {fault: catalogue.verdict(check_of(fault)) for fault in chosen}
    detected = [fault for fault, agreement in verdicts.items() if agreement.outcome == "disagrees"]
    misplaced = {
        fault.id: f"placed at {verdicts[fault].first_difference!r} instead of {fault.place!r}"
        for fault in chosen
        if not verdicts[fault].first_difference.startswith(fault.place)
    }
    placed = len(chosen) - len(misplaced)
    report = f"planted faults: {len(detected)} of {len(chosen)} detected, {placed} of {len(chosen)} placed"
    record_property("planted faults", report)
    with capsys.disabled():
        print(f"\n{report}", *(f"  {name}: {text}" for name, text in misplaced.items()), sep="\n")
    assert len(detected) == len(chosen)
    assert placed >= LEAST_PLACED * len(chosen), misplaced


def test_the_catalogue_is_wide():
    assert len(FAULTS) == sum(len(module.FAULTS) for module in CATALOGUE), "two faults share a name"
    assert len(FAULTS) >= LEAST_FAULTS
    families = {(check_of(fault).framework, fault.model.partition("-")[0]) for fault in FAULTS.values()}
    assert len(families) == 3 * 4
