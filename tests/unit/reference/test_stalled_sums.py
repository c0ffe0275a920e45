"""A running sum that is held in a narrow dtype stands still once it has outgrown its terms."""

import numpy as np
import pytest

from faceoff.reference.summation import stalled_sum_errors

# Of float16, whose additions NumPy makes one after the other.
U = 2.0**-11


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_error_of_numpys_own_running_sum_in_float16(seed):
    terms = np.random.default_rng(seed).standard_normal((700, 5)).astype(np.float16)
    running = np.add.accumulate(terms, axis=0, dtype=np.float16)[-1]
    errors = stalled_sum_errors(terms.astype(float), 0, U)
    assert errors == pytest.approx(np.abs(running - terms.astype(float).sum(axis=0)), abs=1e-12)


def test_equal_terms_stall():
    # From 2048 on a float16 moves no more by 1: half of its spacing, and even is nearer.
    assert stalled_sum_errors(np.ones((5000, 1)), 0, U) == pytest.approx([5000 - 2048])


def test_few_terms_and_infinite_ones_are_left_alone():
    assert stalled_sum_errors(np.ones((3, 2)), 0, U).tolist() == [0, 0]
    assert stalled_sum_errors(np.full((100, 2), np.inf), 0, U).tolist() == [0, 0]
