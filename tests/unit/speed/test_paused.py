"""Time in which the harness did not run is nobody's delay."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faceoff.core import messages
from faceoff.core.messages import Channel, ChannelTimeoutError, Message
from faceoff.speed.rounds import Rounds, run_round
from tests.unit.speed.test_rounds import Answering

ROOT = Path(__file__).resolve().parents[3]
# Answers after half a second of its own running, as a worker would; both are stopped together.
WAITING = """
import os, socket, sys, time
from faceoff.core.messages import Channel, Message
ours, theirs = socket.socketpair()
if os.fork() == 0:
    for _ in range(10):
        time.sleep(0.05)
    Channel(theirs).send(Message("ok"))
    os._exit(0)
print("waiting", flush=True)
channel = Channel(ours)
print(channel.receive(1.0).kind, channel.held_up_s > 1)
"""


def test_a_limit_does_not_count_the_time_in_which_both_sides_were_stopped():
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True, process_group=0,
        cwd=ROOT,
    ) as run:  # fmt: skip
        assert run.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        os.killpg(run.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.killpg(run.pid, signal.SIGCONT)
        assert run.communicate(timeout=30)[0] == "ok True\n"


def test_whoever_does_not_answer_while_the_harness_runs_is_out_of_time(monkeypatch):
    monkeypatch.setattr(messages, "SLICE_S", 0.05)
    ours, theirs = socket.socketpair()
    begin_s = time.monotonic()
    with ours, theirs, pytest.raises(ChannelTimeoutError):
        Channel(ours).receive(0.4)
    assert time.monotonic() - begin_s < 5


def test_a_limit_longer_than_any_run_is_no_error():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(theirs).send(Message("ok"))
        assert Channel(ours).receive(1e12).kind == "ok"


STOPPED = """
import os, subprocess, time
from faceoff.worker.accounting import Accounting, count_continuations
count_continuations()
before = Accounting.read()
subprocess.run(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 0.2; kill -CONT {os.getpid()}"])
print(Accounting.read().since(before)["continued"])
"""


def test_a_process_knows_that_it_was_stopped():
    assert subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, cwd=ROOT).stdout == "1\n"


def test_a_round_in_which_either_side_was_stopped_is_in_no_verdict():
    class Stopped(Answering):
        held_up_s, asked = 0.0, 0

        def request(self, kind, **body):
            reply = super().request(kind, **body)
            self.asked += 1
            if self.asked == 2:
                self.held_up_s += 40.0
            return reply | ({"continued": 1} if self.asked == 4 else {})

    worker, rounds = Stopped(), Rounds(1, 3, 0.01)
    for _ in range(6):
        run_round(worker, "inference", rounds, None)
    assert rounds.disturbed.tolist() == [False, True, False, True, False, False]


def test_a_round_that_a_container_was_held_back_in_is_disturbed():
    class Throttled(Answering):
        def request(self, kind, **body):
            return super().request(kind, **body) | {"throttled_s": 0.005}

    rounds = Rounds(1, 3, 0.01)
    run_round(Throttled(), "inference", rounds, None)
    assert rounds.disturbed.tolist() == [True]
