"""Large batches: compared on fewer examples, once for all sizes, and of what was timed more are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import checking, memory
from harness.agreement import Expected
from harness.core.spec import Contender
from tests.contract.sweeps import outcomes, sweep


def test_large_batches_share_one_comparison_on_fewer_examples(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Counted(Expected):
        def values(self, dtype: str) -> dict[str, np.ndarray]:
            asked.append(self.task.workload.batch_size)
            return super().values(dtype)

    monkeypatch.setattr(checking, "Expected", Counted)
    result = sweep("lstm", lightest, tmp_path / "sweep", (4, 100, 200))
    assert outcomes(result) == {4: "ok", 100: "ok", 200: "ok"}
    checks = {(check.workload["batch_size"], check.check): check for check in result.agreements}
    assert {size: checks[size, "meaning"].examples for size in (4, 100, 200)} == {4: None, 100: 64, 200: 64}
    assert checks[100, "precision"].quantities == checks[200, "precision"].quantities
    assert all("--batch-size 64 --workload lstm-" in checks[200, kind].again for kind in ("meaning", "precision"))
    # Neither of the large ones was computed by the reference as a whole, but for the outputs.
    assert set(asked) == {4, 64}
    page = (tmp_path / "sweep" / "page.html").read_text()
    assert "Compared on a batch of 64" in page
    assert "1,024 examples from the first to the last were compared where there are more" in page


def test_a_wrong_output_beyond_those_examples_is_found(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Expected):
        def forward(self, index: int, dtype: str) -> np.ndarray:
            found = super().forward(index, dtype).copy()
            found[64:] += 1e-3
            return found

    monkeypatch.setattr(checking, "Expected", Other)
    result = sweep("lstm", lightest, tmp_path / "sweep", (4, 100))
    small, large = result.cases
    assert (small.outcome, large.outcome) == ("ok", "disagrees")
    assert "outputs of the last timed call" in large.reason
    assert result.exit_status == 1


def test_one_batch_alone_serves_every_timed_call_where_it_is_large(
    lightest: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LARGE_BATCH_BYTES", 0)
    made: list[int] = []

    class Noted(Expected):
        def forward(self, index: int, dtype: str) -> np.ndarray:
            made.append(len(self.task.batches))
            return super().forward(index, dtype)

    monkeypatch.setattr(checking, "Expected", Noted)
    assert outcomes(sweep("lstm", lightest, tmp_path / "sweep", (4, 100))) == {4: "ok", 100: "ok"}
    assert set(made) == {3, 1}
