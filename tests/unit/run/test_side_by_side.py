"""The reference's thread gives way to the workers, where the kernel can do that."""

import errno
import os
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from faceoff.run import side_by_side

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have policies of their own on Linux alone")


def test_the_reference_goes_on_where_the_kernel_has_one_scheduling_policy_alone(monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(side_by_side.os, "sched_setscheduler", refuse)
    assert side_by_side._in_background(lambda: 7) == 7


def test_only_the_thread_that_computes_gives_way(monkeypatch):
    asked = []
    monkeypatch.setattr(side_by_side.os, "sched_setscheduler", lambda *arguments: asked.append(arguments[:2]))
    assert side_by_side._in_background(threading.get_native_id) == asked[0][0]
    assert asked == [(threading.get_native_id(), os.SCHED_IDLE)]


def test_what_nobody_asks_for_any_more_is_not_computed_and_nothing_goes_on_after_the_run():
    judged, computed = threading.Event(), []

    def warm(expected):
        yield computed.append("asked for")
        judged.wait(10)
        # The others have been judged, but `run` may take a moment to see it.
        while True:
            time.sleep(0.01)
            yield computed.append("too late")

    def judge(contender, expected):
        judged.set()
        return contender, expected()

    pool, compiling = SimpleNamespace(contenders=("a", "b")), SimpleNamespace(spent_s=lambda contender: 0.0)
    reporter = SimpleNamespace(advance=lambda *arguments: None)
    with side_by_side.SideBySide(pool, reporter, compiling) as both:
        _, found = both.run(lambda: 7, warm, judge, 1.0, "a stage")
    length = len(computed)
    assert found == [("a", 7), ("b", 7)]
    time.sleep(0.1)
    assert len(computed) == length
