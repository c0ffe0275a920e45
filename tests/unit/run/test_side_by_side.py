"""The reference's thread gives way to the workers, where the kernel can do that."""

import errno
import os
import sys
import threading

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
