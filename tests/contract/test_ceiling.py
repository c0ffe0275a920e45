"""What the machine does at best is measured with real workers."""

import math

import pytest

from faceoff.core.spec import DenseSpec, Workload
from faceoff.speed.ceiling import copy_rate, measure_ceiling


@pytest.mark.thorough
def test_every_framework_that_is_there_makes_a_product_and_memory_is_copied(every_worker):
    ceiling = measure_ceiling(every_worker, Workload(DenseSpec((4, 2)), 8), 0)
    assert {name.split(":")[0] for name in ceiling.product_flops} == {c.framework for c in every_worker.available}
    assert all(math.isfinite(rate) and rate > 0 for rate in ceiling.product_flops.values())
    assert ceiling.best is not None
    assert ceiling.best[1] == max(ceiling.product_flops.values())
    assert ceiling.copy_bytes is not None
    assert math.isfinite(ceiling.copy_bytes)
    assert ceiling.copy_bytes > 0


def test_a_copy_by_more_threads_than_there_are_cores_is_whole():
    assert copy_rate(7) > 0
