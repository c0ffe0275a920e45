"""What everyday inputs overlook, the situation finds that is there for it; and it accuses no unharmed copy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faceoff.workloads.situations import EVERYDAY, SITUATIONS
from tests.meta.faults import pytorch_habits
from tests.meta.faults.fault import Fault
from tests.meta.faults.runner import Runner, is_installed
from tests.meta.faults.situated import FAULTS

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    runner = Runner(tmp_path_factory.mktemp("faults"))
    yield runner
    runner.close()


# Each kind of what large values show once: the other frameworks have the same ones.
SITUATED = (*pytorch_habits.LIMITS, *FAULTS)


@pytest.mark.parametrize("fault", SITUATED, ids=lambda fault: f"{fault.situation}-{fault.id}")
def test_a_situation_finds_what_is_overlooked_every_day(runner: Runner, fault: Fault) -> None:
    if not is_installed(fault.contender.partition(":")[0]):
        pytest.skip("not installed")
    setting = fault.contender, fault.model, fault.optimiser, fault.dtype
    overlooked = runner.check(*setting, EVERYDAY, fault)
    assert overlooked.outcome == "ok", overlooked.message
    found = runner.check(*setting, fault.situation, fault)
    assert found.outcome == "disagrees", found.reason or found.worst
    assert f"situation {fault.situation}" in found.message
    assert found.first_difference.startswith(fault.place), found.message
    unharmed = runner.check(*setting, fault.situation)
    assert unharmed.outcome == "ok", unharmed.message


def test_every_situation_has_a_fault_that_it_is_there_for() -> None:
    assert {fault.situation for fault in SITUATED} == set(SITUATIONS) - {EVERYDAY}
