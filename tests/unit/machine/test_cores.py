"""Runs beside each other take different cores, as far as there are any."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from faceoff.machine.cores import MOST_ON_A_CORE, held_cores

# Prints what it holds, and holds it until it is told to end.
HOLDER = """
import os, sys
os.sched_getaffinity = lambda process: {2, 3, 5, 7}
from faceoff.machine.cores import held_cores
with held_cores(2) as cores:
    print(*cores, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def four_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 3, 5, 7}, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.parametrize(("count", "cores"), [(1, [2]), (3, [2, 3, 5]), (4, [2, 3, 5, 7]), (9, [2, 3, 5, 7])])
def test_a_lone_run_has_the_first_cores(count, cores):
    for _ in range(2):
        with held_cores(count) as held:
            assert held == cores


def test_runs_beside_each_other_share_no_core_while_one_is_free():
    with held_cores(1) as first, held_cores(2) as second, held_cores(1) as third:
        assert (first, second, third) == ([2], [3, 5], [7])
        with held_cores(1) as fourth, held_cores(3) as fifth:
            assert (fourth, fifth) == ([2], [3, 5, 7])
    with held_cores(2) as alone:
        assert alone == [2, 3]


def test_a_run_that_needs_all_cores_holds_none():
    with held_cores(4), held_cores(1) as one:
        assert one == [2]


def test_what_another_process_holds_is_free_once_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline().split() == [b"2", b"3"]
        with held_cores(2) as held:
            assert held == [5, 7]
        other.kill()
        other.wait()
        with held_cores(2) as held:
            assert held == [2, 3]


def test_where_nobody_can_tell_who_holds_what_it_is_the_first_cores(tmp_path):
    (tmp_path / f"faceoff-cores-{os.getuid()}").write_text("no folder")
    with held_cores(2) as held:
        assert held == [2, 3]


def test_however_many_runs_there_are_each_has_its_cores():
    with ExitStack() as holds:
        held = [holds.enter_context(held_cores(1)) for _ in range(4 * MOST_ON_A_CORE + 3)]
        assert held == [[2], [3], [5], [7]] * MOST_ON_A_CORE + [[2]] * 3
