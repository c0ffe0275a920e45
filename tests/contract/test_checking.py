"""Large batches: compared on fewer examples, once for all sizes, and what is timed is judged by those."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceoff.agreement.check import Expected
from faceoff.agreement.noise import Values
from faceoff.agreement.timed_check import TimedExpected
from faceoff.core.spec import Contender
from faceoff.pool import memory
from faceoff.run import own_models
from tests.contract.sweeps import outcomes, sweep


@pytest.mark.thorough
def test_large_batches_share_one_comparison_on_fewer_examples(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Counted(Expected):
        def values(self, dtype: str) -> dict[str, np.ndarray]:
            asked.append(self.task.workload.batch_size)
            return super().values(dtype)

    monkeypatch.setattr(own_models, "Expected", Counted)
    result = sweep("lstm", lightest, tmp_path / "sweep", (4, 100, 200))
    assert outcomes(result) == {4: "ok", 100: "ok", 200: "ok"}
    checks = {(check.workload["batch_size"], check.check): check for check in result.agreements}
    assert {size: checks[size, "meaning"].examples for size in (4, 100, 200)} == {4: None, 100: 50, 200: 50}
    assert {size: checks[size, "meaning"].timed for size in (4, 100)} == {4: "", 100: "everything"}
    assert checks[100, "precision"].quantities == checks[200, "precision"].quantities
    assert all("--batch-size 50 --workload lstm-" in checks[200, kind].again for kind in ("meaning", "precision"))
    # Neither of the large ones was computed by the reference as a whole.
    assert set(asked) == {4, 50}
    page = (tmp_path / "sweep" / "page.html").read_text()
    assert "Compared on a batch of 50" in page
    assert "training steps of the whole batch were judged by them" in page


@pytest.mark.thorough
def test_one_batch_alone_serves_every_timed_call_where_it_is_large(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LARGE_BATCH_BYTES", 0)
    made: list[tuple[str, int]] = []

    class Noted(TimedExpected):
        def problem(self, step: str, got: Values, dtype: str, new: bool = False) -> str:
            made.append((step, len(self.task.batches)))
            return super().problem(step, got, dtype, new)

    monkeypatch.setattr(own_models, "TimedExpected", Noted)
    result = sweep("lstm", lightest, tmp_path / "sweep", (4, 100), ("inference", "training"))
    assert [case.outcome for case in result.cases] == ["ok"] * 4
    assert set(made) == {("inference", 3), ("training", 3), ("inference", 1), ("training", 1)}
