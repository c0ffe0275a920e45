"""Every case as one benchmark entry: `pytest tests/benchmarks --benchmark-only`."""

from faceoff.results.records import CaseResult


def test_speed(measured_case: CaseResult) -> None:
    assert measured_case.speed is not None
    assert measured_case.speed.time_s > 0
