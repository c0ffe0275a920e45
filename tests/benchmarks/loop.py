"""What the loop around a timed call adds to it: `python -m tests.benchmarks.loop`. Exit status 1 at 1 µs or more.

The worker's own loop times a contender that does nothing, so all of a round is the loop. Set beside it: the same calls
in the barest loop there can be.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys

from faceoff.core.clock import monotonic_ns
from faceoff.core.messages import Channel
from faceoff.worker.server import Server

LIMIT_NS = 1000.0


class Empty:
    """A runtime and a model that do nothing."""

    def forward(self, batch: object) -> object:
        return batch

    def wait(self, value: object) -> None:
        return None

    def start_clock(self) -> None:
        return None


def worker_ns(server: Server, calls: int) -> float:
    """Nanoseconds per call of one round, as the worker reports it."""
    reply = server.do_time(step="inference", warmup=1, iterations=calls, start=0)
    return float(reply["duration_ns"]) / calls


def bare_ns(empty: Empty, calls: int) -> float:
    """Nanoseconds per call of the same calls with nothing around them."""
    call, wait, batches = empty.forward, empty.wait, [None] * calls
    begin = monotonic_ns()
    for batch in batches:
        wait(call(batch))
    return (monotonic_ns() - begin) / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--calls", type=int, default=2000, help="in each round")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    ours, theirs = socket.socketpair()
    empty = Empty()
    with ours:
        server = Server(Channel(theirs), "empty", 0.0)
        server._runtime, server._model, server._batches = empty, empty, [None] * 4  # type: ignore[assignment]
        pairs = [(worker_ns(server, asked.calls), bare_ns(empty, asked.calls)) for _ in range(asked.rounds)]
    added_ns = statistics.median(loop_ns - plain_ns for loop_ns, plain_ns in pairs)
    whole_ns = statistics.median(loop_ns for loop_ns, _ in pairs)
    if asked.json:
        print(json.dumps({"added_ns": added_ns, "empty_call_ns": whole_ns, "limit_ns": LIMIT_NS}))
    else:
        print(
            f"an empty call takes {whole_ns:.0f} ns, of which the loop adds {added_ns:.0f} ns (limit {LIMIT_NS:.0f} ns)"
        )
    return int(added_ns >= LIMIT_NS)


if __name__ == "__main__":
    sys.exit(main())
