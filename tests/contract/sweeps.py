"""A real run over several batch sizes, for the tests of what happens to the sizes."""

from __future__ import annotations

from pathlib import Path

from faceoff import bench
from faceoff.core.spec import Contender
from faceoff.results.records import Result


def sweep(
    model: str, contender: Contender, out: Path, sizes: tuple[int, ...], steps: tuple[str, ...] = ("inference",)
) -> Result:
    """A small model at these batch sizes."""
    return bench(
        preset="small", models=[model], contenders=[str(contender)], batch_size=sizes, steps=steps,
        budget="quick", threads=1, out=out, quiet=True,
    )  # fmt: skip


def outcomes(result: Result) -> dict[int, str]:
    """How each batch size ended."""
    return {case.workload["batch_size"]: case.outcome for case in result.cases}
