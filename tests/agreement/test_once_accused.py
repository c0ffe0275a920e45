"""Right implementations that the check accused once: of each the model, batch, weights, dtype and contender.

What was wrong each time stands beside the case: with the check, but once (the root of a variance of zero) with JAX
code that was not as Flax has it.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import pytest

from faceoff.agreement.check import Expected, check_agreement
from faceoff.core.spec import Contender, DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.pool.workers import Pool
from faceoff.results.agreements import EVERYDAY
from faceoff.workloads.situations import SITUATIONS

pytestmark = pytest.mark.thorough

NARROW = ResidualSpec(32, 32, 3, stage_widths=(4, 8), blocks_per_stage=1)


class Once(NamedTuple):
    """One check that accused.

    Args:
        why: what was not thought of. Which way a ReLU goes depends on the machine's kernels too.
    """

    why: str
    model: ModelSpec
    batch_size: int
    seed: int
    contender: str
    dtype: str
    situation: str = EVERYDAY
    optimiser: Optimiser = Optimiser()


CASES = (
    Once("one ReLU decides otherwise", NARROW, 32, 8, "pytorch:eager", "float32"),
    Once(
        "one ReLU, seen after training", ResidualSpec(32, 32, 3, (16, 32, 64), 1), 4, 10, "pytorch:eager", "float32",
    ),
    Once("equal terms in a convolution", NARROW, 32, 4, "pytorch:eager", "float64"),
    Once("equal terms in a batch norm", NARROW, 32, 12, "jax:jit", "float64"),
    Once("few pictures of one colour channel", ResidualSpec(12, 12, 1, (6,), 2), 2, 31, "pytorch:eager", "float64"),
    Once(
        "a sum over all time steps", RnnSpec(40, 1, 10, 90, many_to_many=True, activation="relu"), 16, 0,
        "pytorch:eager", "float64",
    ),
    Once("gradients below float32's range", LstmSpec(64, 48, 10, 400), 4, 0, "jax:jit", "float32"),
    Once("gradients below float32's range", LstmSpec(64, 48, 10, 400), 4, 0, "pytorch:eager", "float32"),
    Once("gradients below float32's range", RnnSpec(64, 8, 10, 150), 1, 0, "pytorch:eager", "float32"),
    Once("squares below float64's range", LstmSpec(64, 16, 10, 700), 2, 0, "pytorch:eager", "float64"),
    Once(
        "JAX took the root of a variance of zero in float16", ResidualSpec(9, 11, 1, (40,), 1), 2, 2091311975,
        "jax:jit", "float16", situation="zero",
    ),
    Once(
        "equal logits round alike", RnnSpec(3, 1, 4, 33, many_to_many=True), 28, 1047855432, "pytorch:eager",
        "float32", situation="equal-logits", optimiser=Optimiser("adam"),
    ),
    Once(
        "Adam's second moment is zero in float16", RnnSpec(70, 2, 28, 5, num_layers=2), 2, 1554213681, "jax:jit",
        "float16", optimiser=Optimiser("adam", 0.00467, beta1=0.858, beta2=0.9661, epsilon=1e-6),
    ),
    Once(
        "Adam's decay rate is 1 in float16", RnnSpec(9, 1, 99, 1, 2, many_to_many=True, activation="relu"), 21,
        1487656107, "tensorflow:graph", "float16",
        optimiser=Optimiser("adam", 0.00635, beta1=0.868, beta2=0.99982, epsilon=1.81e-5),
    ),
    Once(
        "Adam's epsilon is 0 in float16 where it is scaled", DenseSpec((3, 8, 4)), 41, 1394233076, "tensorflow:eager",
        "float16", situation="at-zero",
        optimiser=Optimiser("adam", 7.16e-5, beta1=0.964, beta2=0.9994, epsilon=1e-6),
    ),
    Once(
        "second moments nearly lost in float16", RnnSpec(11, 265, 4, 1, many_to_many=True, activation="relu"), 4,
        1822424067, "jax:jit", "float16", situation="padded",
        optimiser=Optimiser("adam", 0.0125, beta1=0.905, beta2=0.9099, epsilon=1.73e-6),
    ),
    Once(
        "derivatives of saturated gates multiply", RnnSpec(1, 20, 2, 18, 2, many_to_many=True), 94, 478751796,
        "pytorch:eager", "bfloat16", situation="saturated", optimiser=Optimiser("momentum", 0.000228, momentum=0.169),
    ),
    Once(
        "1 - momentum loses digits", ResidualSpec(6, 6, 1, (15, 24, 2), 2, 20, 2.45e-6, 0.00409), 13, 2063711464,
        "jax:jit", "float64", situation="at-zero", optimiser=Optimiser("momentum", 0.000326, momentum=0.673),
    ),
    Once(
        "chaos over 246 steps", RnnSpec(13, 16, 9, 246, 3, many_to_many=True), 2, 44574317, "pytorch:eager", "float32",
        situation="saturated", optimiser=Optimiser("adam", 0.0626, beta1=0.682, beta2=0.9989, epsilon=1.63e-10),
    ),
    Once(
        "what decays comes to rest among the subnormal numbers", LstmSpec(28, 9, 3, 743), 3, 1027969999,
        "pytorch:eager", "float32", situation="constant",
        optimiser=Optimiser("adam", 0.0676, beta1=0.647, beta2=0.99364, epsilon=2.73e-10),
    ),
    Once(
        "a running sum stalls in bfloat16", LstmSpec(224, 17, 52, 8, many_to_many=True), 189, 1977479877,
        "tensorflow:eager", "bfloat16", situation="constant", optimiser=Optimiser("sgd", 0.0394),
    ),
    Once(
        "56 equal pixels whose ReLU goes the other way together",
        ResidualSpec(64, 7, 3, (2, 2), 2, 2, epsilon=0.000742, momentum=0.00693), 91, 1000047346, "pytorch:eager",
        "float32", situation="constant",
        optimiser=Optimiser("adam", 2.12e-05, beta1=0.547, beta2=0.9765, epsilon=0.000459),
    ),
    Once(
        "terms that differ and whose last bits are alike, in a batch norm",
        ResidualSpec(64, 7, 3, (2, 2), 2, 2, epsilon=0.000742, momentum=0.00693), 91, 1715055614, "jax:jit", "float64",
        situation="at-zero", optimiser=Optimiser("momentum", 7.86e-05, 0.875),
    ),
    Once(
        "a running sum that begins at the bias, of terms whose last bits are alike", DenseSpec((210, 478)), 67,
        760041345, "pytorch:eager", "float64", situation="constant", optimiser=Optimiser("momentum", 0.0018, 0.318),
    ),
    Once(
        "Adam's second moment is lost in float16, and the losses are anything", LstmSpec(14, 67, 14, 7, 2), 5,
        1285881612, "tensorflow:graph", "float16", situation="constant",
        optimiser=Optimiser("adam", 0.0102, beta1=0.89, beta2=0.99475, epsilon=7.85e-06),
    ),
)  # fmt: skip


@pytest.mark.parametrize("once", CASES, ids=lambda once: f"{once.why}, {once.contender}".replace(" ", "-"))
def test_a_right_implementation_is_accused_no_more(once: Once, every_worker: Pool) -> None:
    contender = Contender.parse(once.contender)
    error = every_worker.failures.get(contender)
    if error and error.outcome == "missing":
        pytest.skip(str(error))
    task = SITUATIONS[once.situation].task(Workload(once.model, once.batch_size, optimiser=once.optimiser), once.seed)
    expected = Expected(task, once.seed, keep=False)
    found = check_agreement(
        every_worker.worker(contender), contender, task, lambda: expected, once.dtype,
        again="", busy=nullcontext(), situation=once.situation,
    )  # fmt: skip
    assert found.outcome == "ok", found.message or found.reason
