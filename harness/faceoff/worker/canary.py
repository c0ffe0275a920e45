"""Fixed computations by NumPy alone: `python canary.py` does and times them once for every line that it reads.

They are the same in every run, so what they take tells of the machine. Each is done once before it is timed: the rounds
of others have emptied the caches. It answers with their nanoseconds, in the order of `KINDS`, and ends with its input.
"""

import signal
import sys
import time

import numpy as np

KINDS = ("product", "copy", "python")
# Three matrices of 128 KiB, for an inner cache; and parts of two arrays that are larger than outer ones.
PRODUCT_SIZE, PRODUCTS = 128, 8
PART_BYTES, PARTS = 2**23, 4
ADDITIONS = 20000


def multiply(matrix: np.ndarray, product: np.ndarray) -> None:
    """Bound by arithmetic."""
    for _ in range(PRODUCTS):
        np.matmul(matrix, matrix, out=product)


def add_up() -> int:
    """Bound by the interpreter."""
    total = 0
    for number in range(ADDITIONS):
        total += number & 7
    return total


def main() -> None:
    """Serves until its input ends."""
    # Ctrl-C reaches the whole terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    matrix = np.linspace(0.0, 1.0, PRODUCT_SIZE**2).reshape(PRODUCT_SIZE, PRODUCT_SIZE)
    product = np.empty_like(matrix)
    source = np.ones((PARTS, PART_BYTES // 8))
    target = np.zeros_like(source)
    print(np.__version__, flush=True)
    for turn, _ in enumerate(sys.stdin):
        # Another part each time, which nothing has brought into a cache since.
        part, copy = source[turn % PARTS], target[turn % PARTS]
        marks = []
        multiply(matrix, product)
        marks.append(time.perf_counter_ns())
        multiply(matrix, product)
        marks.append(time.perf_counter_ns())
        np.copyto(copy, part)
        marks.append(time.perf_counter_ns())
        add_up()
        marks.append(time.perf_counter_ns())
        print(*np.diff(marks), flush=True)


if __name__ == "__main__":
    main()
