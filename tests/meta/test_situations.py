"""What everyday inputs overlook, the situation finds that is there for it; and it accuses no unharmed copy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.situations import EVERYDAY, SITUATIONS
from tests.meta.faults.runner import Runner, is_installed
from tests.meta.faults.situated import SITUATED, Situated


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("faults"))
    yield runner
    runner.close()


@pytest.mark.parametrize("situated", SITUATED, ids=lambda s: f"{s.situation}-{s.fault.id}")
def test_a_situation_finds_what_is_overlooked_every_day(runner: Runner, situated: Situated) -> None:
    fault, situation = situated.fault, situated.situation
    if not is_installed(fault.contender.partition(":")[0]):
        pytest.skip("not installed")
    setting = fault.contender, fault.model, fault.optimiser, fault.dtype
    overlooked = runner.check(*setting, fault)
    assert overlooked.outcome == "ok", overlooked.message
    found = runner.check(*setting, situation, fault)
    assert found.outcome == "disagrees", found.reason or found.worst
    assert found.situation == situation
    assert f"situation {situation}" in found.message
    assert found.first_difference.startswith(fault.place), found.message
    unharmed = runner.check(*setting, situation)
    assert unharmed.outcome == "ok", unharmed.message


def test_every_situation_has_a_fault_that_it_is_there_for() -> None:
    assert {situated.situation for situated in SITUATED} == set(SITUATIONS) - {EVERYDAY}
