"""The reference's thread computes what is asked for, and no more."""

import threading
import time
from types import SimpleNamespace

from faceoff.run import side_by_side


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
