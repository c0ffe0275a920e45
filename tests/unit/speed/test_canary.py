"""The canary's process: rounds of every computation, and none where it fails."""

import numpy as np
import psutil

from faceoff.speed import canary
from faceoff.speed.canary import CanaryProcess
from faceoff.worker.canary import KINDS


def test_each_song_is_a_round_of_every_computation_and_the_record_sums_them_up():
    with CanaryProcess() as process:
        for _ in range(4):
            process.run_once()
    (record,) = process.record("w")
    assert (record.workload, record.numpy) == ("w", np.__version__)
    assert set(record.rounds_s) == set(record.times_s) == set(KINDS)
    for kind, rounds_s in record.rounds_s.items():
        assert len(rounds_s) == 4
        assert min(rounds_s) <= record.times_s[kind] <= max(rounds_s)
        # It is to cost a few milliseconds a pass, also on a machine that is far slower.
        assert min(rounds_s) < 0.05


def test_it_leaves_no_process_and_nothing_is_recorded_without_a_pass():
    with CanaryProcess() as process:
        child = psutil.Process(process._process.pid)
    assert not child.is_running()
    assert process.record("w") == []


def test_a_canary_that_dies_or_does_not_start_records_nothing_and_ends_nothing(monkeypatch):
    with CanaryProcess() as process:
        process.run_once()
        process._process.kill()
        process._process.wait()
        for _ in range(3):
            process.run_once()
    assert len(process.record("w")) == 1
    monkeypatch.setattr(canary, "PROGRAM", canary.PROGRAM.with_name("not there.py"))
    with CanaryProcess() as process:
        process.run_once()
    assert process.record("w") == []


def test_of_a_card_it_tells_nothing():
    with CanaryProcess("gpu") as process:
        process.run_once()
    assert process.record("w") == []


def test_one_that_hangs_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "hangs.py").write_text("import time; print('2.0', flush=True); time.sleep(60)")
    monkeypatch.setattr(canary, "PROGRAM", tmp_path / "hangs.py")
    with CanaryProcess() as process:
        process._numpy = canary._line(process._process.stdout).strip()
        monkeypatch.setattr(canary, "PATIENCE_S", 0.1)
        process.run_once()
        assert process._process is None
    assert process.record("w") == []
