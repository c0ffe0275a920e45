"""Turns: so many at a time, and who has cost most goes first."""

import threading
import time

from faceoff.core.spec import Contender
from faceoff.run.turns import Turns

CHEAP, DEAR, NEW = (Contender("pytorch", mode) for mode in ("eager", "compile", "other"))


def wait_until(condition):
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def take_turns(turns, contenders):
    """Lets them queue in this order while every slot is taken; returns the order in which they got their turns."""
    order, threads = [], []

    def take(contender):
        with turns.turn(contender):
            order.append(contender)

    with turns.turn(NEW):
        for contender in contenders:
            threads.append(threading.Thread(target=take, args=(contender,)))
            threads[-1].start()
            wait_until(lambda: turns.waiting == len(threads))
    for thread in threads:
        thread.join(30)
    return order


def spend(turns, contender, seconds):
    with turns.turn(contender):
        time.sleep(seconds)


def test_who_has_cost_most_goes_first_and_equals_in_the_order_in_which_they_came():
    turns = Turns(1)
    assert take_turns(turns, [CHEAP, DEAR]) == [CHEAP, DEAR]
    spend(turns, DEAR, 0.2)
    assert turns.spent_s(DEAR) >= 0.2
    assert take_turns(turns, [CHEAP, DEAR]) == [DEAR, CHEAP]


def test_no_more_than_the_slots_compute_at_a_time_and_all_of_the_slots_are_used():
    turns, lock = Turns(2), threading.Lock()
    now, most = 0, 0

    def compute(contender):
        nonlocal now, most
        for _ in range(20):
            with turns.turn(contender):
                with lock:
                    now += 1
                    most = max(most, now)
                time.sleep(0.001)
                with lock:
                    now -= 1

    threads = [threading.Thread(target=compute, args=(contender,)) for contender in (CHEAP, DEAR, NEW)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 2


def test_a_turn_that_ends_in_an_error_gives_its_slot_back():
    turns = Turns(1)
    try:
        with turns.turn(CHEAP):
            raise ValueError
    except ValueError:
        pass
    assert take_turns(turns, [DEAR]) == [DEAR]
