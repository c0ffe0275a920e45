"""Signals end a run in order: what must not be left half done is done first, and afterwards none changes the status."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faceoff.commands.summary import print_summary, way_on
from faceoff.results.records import Result
from faceoff.run.journal import NAME
from faceoff.system.interrupts import SIGNALS, held_off, interrupt, listen
from tests.unit.results.samples import empty, main_job
from tests.unit.results.test_impossible_values import line

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_until_what_it_must_not_break_is_done(number):
    # Whoever started the tests may ignore it.
    signal.signal(number, signal.SIG_DFL)
    listen()
    done = []

    def work():
        with held_off():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(number) is interrupt
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_what_whoever_started_the_process_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listen()
    with held_off():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


# The last thing that a process does; a signal then used to end it with the signal's own status.
AT_THE_END = """
import atexit, os, signal, sys, time
from faceoff.commands.cli import main
class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
late = Late()
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
main(["list", "--json"])
"""


def test_a_signal_after_the_work_changes_no_status():
    run = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")


def said(result, tmp_path, capsys):
    print_summary(result, tmp_path / "result.json", tmp_path / "page.html")
    return capsys.readouterr().out


def test_a_run_that_was_interrupted_does_not_say_that_everything_ran(tmp_path, capsys):
    result: Result = empty(interrupted=True, contenders=main_job().contenders)
    result.command = "faceoff bench"
    text = said(result, tmp_path, capsys)
    assert "everything ran" not in text
    assert "nothing was compared yet" in text
    result.agreements = main_job().agreements[:2]
    text = said(result, tmp_path, capsys)
    assert "everything ran" not in text
    assert "the 2 records so far are ok" in text
    assert f"resume: faceoff bench --resume {tmp_path}" in text


def test_the_way_on_is_that_of_the_state(tmp_path):
    assert way_on("bench", tmp_path) == "nothing was begun"
    identity = {"command": "bench", "asked": {}, "workloads": [], "machine": {}, "versions": {}, "code": ""}
    begin = line({"kind": "run", "schema_version": 2, "created": "", "command_line": "", "identity": identity})
    (tmp_path / NAME).write_text(begin)
    assert way_on("bench", tmp_path) == f"resume: faceoff bench --resume {tmp_path}"
    (tmp_path / NAME).write_text(begin + line({"kind": "ended"}))
    assert way_on("bench", tmp_path) == f"all was finished: {tmp_path / 'result.json'}"


# A command that is at work when the signal comes.
AT_WORK = """
import os, sys, time
from faceoff.commands import cli
def work(**options):
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(60)
cli.cli.commands["list"].callback = work
cli.main(["list"])
"""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_each_of_them_ends_a_command_in_order(number):
    def as_a_shell_starts_it():
        signal.signal(number, signal.SIG_DFL)

    run = subprocess.run(
        [sys.executable, "-c", AT_WORK, str(int(number))], capture_output=True, text=True, cwd=ROOT, timeout=50,
        preexec_fn=as_a_shell_starts_it,
    )  # fmt: skip
    assert (run.returncode, run.stderr.strip()) == (130, "faceoff: interrupted")


def test_those_that_batch_systems_send_beforehand_are_among_them():
    sent = {"SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGTERM", "SIGQUIT"}
    assert sent <= {number.name for number in SIGNALS}
