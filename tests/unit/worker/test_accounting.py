"""What the kernel's counters say, read from files as Linux writes them."""

import gc
import io
import os
import time

import pytest

from faceoff.worker import accounting
from faceoff.worker.accounting import TICK_S, Accounting, forget_peak, host_memory


def shown(monkeypatch, **texts):
    """Lets files that end with a name hold a text."""

    def opened(path, *arguments):
        name = path.rsplit("/", 1)[-1]
        if name not in texts:
            raise FileNotFoundError(path)
        return io.StringIO(texts[name])

    monkeypatch.setattr(accounting, "open", opened, raising=False)


def test_what_keeps_the_machine_busy_and_what_was_stolen_are_columns_of_their_own(monkeypatch):
    #                           user nice system idle iowait irq softirq steal guest
    shown(monkeypatch, stat="cpu  100 20 30 4000 500 6 7 80 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    found = Accounting.read()
    assert found.busy_s == pytest.approx((100 + 20 + 30 + 6 + 7) * TICK_S)
    assert found.stolen_s == pytest.approx(80 * TICK_S)


def test_waiting_for_a_core_is_that_of_all_threads_together(monkeypatch):
    monkeypatch.setattr(accounting.glob, "glob", lambda pattern: ["/proc/self/task/1/schedstat"] * 3)
    shown(monkeypatch, schedstat="111111 2000000000 333\n")
    assert Accounting.read().waited_s == pytest.approx(6.0)


def test_a_kernel_that_keeps_no_accounts_is_no_error(monkeypatch):
    shown(monkeypatch)
    found = Accounting.read()
    assert (found.busy_s, found.stolen_s, found.waited_s) == (0.0, 0.0, 0.0)


def test_sleep_is_what_the_clock_of_the_boot_is_ahead_by(monkeypatch):
    before = Accounting.read()
    ordinary = time.clock_gettime
    monkeypatch.setattr(accounting.time, "clock_gettime", lambda clock: ordinary(clock) + 7.0)
    assert Accounting.read().since(before)["asleep_s"] == pytest.approx(7.0, abs=0.1)


def test_processor_time_is_that_of_this_process_and_only_grows():
    before = Accounting.read()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    spent = Accounting.read().since(before)
    assert 0.04 < spent["cpu_s"] < 5
    assert all(value >= 0 for name, value in spent.items() if name != "asleep_s")


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="only Linux forgets a peak")
def test_the_peak_of_memory_is_that_since_it_was_forgotten():
    size = 300 * 2**20
    held = bytearray(size)
    held[::4096] = b"x" * len(held[::4096])
    with_it = host_memory()["host_peak_bytes"]
    del held
    gc.collect()
    assert host_memory()["host_peak_bytes"] > with_it - size / 10
    forget_peak()
    found = host_memory()
    assert found["host_peak_bytes"] < with_it - size / 2
    assert found["host_in_use_bytes"] <= found["host_peak_bytes"]
