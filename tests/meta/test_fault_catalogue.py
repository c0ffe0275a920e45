"""The agreement check detects every fault of the catalogue, and says where nearly every one of them is.

Nothing here is simulated: each fault stands in a copy of the implementation, which a real worker loads and the shipped
check judges. The same way of running finds nothing in an unharmed copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.results import Agreement
from tests.meta.faults import jax, pytorch, tensorflow
from tests.meta.faults.fault import MODELS, Fault
from tests.meta.faults.runner import Runner, is_installed

FAULTS = {fault.id: fault for fault in (*pytorch.FAULTS, *tensorflow.FAULTS, *jax.FAULTS)}
CONTENDERS = ("pytorch:eager", "tensorflow:eager", "jax:jit")
LEAST_FAULTS = 60
LEAST_PLACED = 0.95


class Catalogue:
    """The verdicts, each found once.

    Args:
        runner: runs the check.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._verdicts: dict[str, Agreement] = {}

    def verdict(self, fault: Fault) -> Agreement:
        """What the check says in the dtype in which the fault shows."""
        if fault.id not in self._verdicts:
            self._verdicts[fault.id] = self.runner.check(
                fault.contender, fault.model, fault.optimiser, fault.dtype, fault
            )
        return self._verdicts[fault.id]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    runner = Runner(tmp_path_factory.mktemp("faults"))
    yield Catalogue(runner)
    runner.close()


def skip_unless_installed(contender: str) -> None:
    framework = contender.partition(":")[0]
    if not is_installed(framework):
        pytest.skip(f"{framework} is not installed")


# Float32 where faults are planted that only float32 shows.
UNHARMED = (
    *((contender, model, "sgd", "float64") for contender in CONTENDERS for model in MODELS),
    *((contender, "dense", optimiser, "float64") for contender in CONTENDERS for optimiser in ("momentum", "adam")),
    ("tensorflow:graph", "dense", "sgd", "float64"),
    *dict.fromkeys((f.contender, f.model, f.optimiser, f.dtype) for f in FAULTS.values() if f.dtype == "float32"),
)


@pytest.mark.parametrize(("contender", "model", "optimiser", "dtype"), UNHARMED, ids=str)
def test_an_unharmed_copy_agrees(catalogue, contender, model, optimiser, dtype):
    skip_unless_installed(contender)
    agreement = catalogue.runner.check(contender, model, optimiser, dtype)
    assert agreement.outcome == "ok", agreement.message or agreement.reason


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_detected(catalogue, fault):
    skip_unless_installed(fault.contender)
    agreement = catalogue.verdict(fault)
    # A crash is loud too, but it would not show that the comparison sees anything.
    assert agreement.outcome == "disagrees", agreement.reason or [q.error for q in agreement.quantities]
    if fault.dtype == "float32":
        wider = catalogue.runner.check(fault.contender, fault.model, fault.optimiser, "float64", fault)
        assert wider.outcome == "ok", f"float64 sees it too: {wider.message}"


def test_nearly_every_fault_is_placed(catalogue, record_property, capsys):
    chosen = [fault for fault in FAULTS.values() if is_installed(fault.contender.partition(":")[0])]
    if not chosen:
        pytest.skip("no framework is installed")
    verdicts = {fault: catalogue.verdict(fault) for fault in chosen}
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
    assert len(FAULTS) == len(pytorch.FAULTS) + len(tensorflow.FAULTS) + len(jax.FAULTS), "two faults share a name"
    assert len(FAULTS) >= LEAST_FAULTS
    families = {(fault.contender.partition(":")[0], fault.model.partition("-")[0]) for fault in FAULTS.values()}
    assert len(families) == 3 * 4
