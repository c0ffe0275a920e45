"""What an implementation does wrong in a verb is a finding with a name; what goes wrong around it stays a crash."""

import functools

import numpy as np
import pytest

from faceoff.agreement.findings import MISSING_GRADIENT, explained, unfinished
from faceoff.core.error_words import ErrorWords
from faceoff.core.errors import FindingError, WorkerError
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.results.agreements import Quantity
from faceoff.worker.failures import describe_error
from faceoff.worker.findings import as_array, as_arrays, as_gradients, as_losses
from faceoff.worker.loading import PACKAGE

# Of all frameworks: what one says means the same of another.
WORDS = functools.reduce(ErrorWords.with_those_of, (framework.errors for framework in FRAMEWORKS.values()))


def raised_in(module: str, statement: str, **names: object) -> Exception:
    """The exception of a statement that stands in the second line of `model.py`, which is called `module`."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(compile(f"\n{statement}", "/tree/model.py", "exec"), {"__name__": module, **names})
    return caught.value


def outcome_of(statement: str, module: str = f"{PACKAGE}.model", **names: object) -> tuple[str, str]:
    said = describe_error(raised_in(module, statement, **names), WORDS)
    return said["outcome"], said["reason"]


# As each framework says it, gathered from the versions that are pinned.
FINDINGS = [
    ("RuntimeError", "mat1 and mat2 must have the same dtype, but got Double and Float", "wrong dtype"),
    ("RuntimeError", "Input type (double) and bias type (float) should be the same", "wrong dtype"),
    ("RuntimeError", "mixed dtype (CPU): all inputs must share same datatype.", "wrong dtype"),
    ("RuntimeError", "expected scalar type Double but found Float", "wrong dtype"),
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (6x12 and 11x3)", "wrong shape"),
    ("RuntimeError", "The size of tensor a (12) must match the size of tensor b (11) at ...", "wrong shape"),
    ("RuntimeError", "Expected hidden[0] size (1, 6, 8), got [1, 4, 8]", "wrong shape"),
    (
        "RuntimeError",
        "element 0 of tensors does not require grad and does not have a grad_fn",
        "cannot be differentiated",
    ),
    ("RuntimeError", "Trying to backward through the graph a second time", "cannot be differentiated"),
    ("TypeError", "add got incompatible shapes for broadcasting: (6, 12), (6, 11).", "wrong shape"),
    ("TypeError", "lax.add requires arguments to have the same dtypes, got float64, float32.", "wrong dtype"),
    (
        "TypeError",
        "scan body function carry input and carry output must have equal types, but they differ:\\n\\n"
        "The input carry c has type float64[3] but the output has type float32[3], so the dtypes do not match.",
        "wrong dtype",
    ),
    (
        "TypeError",
        "scan body function carry input and carry output must have equal types, but they differ:\\n\\n"
        "The input carry c has type float64[3] but the output has type float64[2], so the shapes do not match.",
        "wrong shape",
    ),
    ("ValueError", "Custom VJP bwd rule must produce an output with the same type", "cannot be differentiated"),
    ("ValueError", "Dimensions must be equal, but are 12 and 11", "wrong shape"),
    ("ValueError", "Tried to convert 'delta' to a tensor and failed. Error: None values not supported.", "no value"),
    (
        "TypeError",
        "Input 'b' of 'MatMul' Op has type float32 that does not match type float64 of argument",
        "wrong dtype",
    ),
    (
        "ValueError",
        "Exception encountered when calling Cell.call().\\n\\n\\x1b[1mIncompatible shapes: [6,32] vs. [4,32]\\x1b[0m",
        "wrong shape",
    ),
    ("AttributeError", "'NoneType' object has no attribute 'dtype'", "no value"),
]


@pytest.mark.parametrize(("kind", "text", "what"), FINDINGS, ids=lambda value: str(value)[:40])
def test_an_error_of_mixed_values_inside_an_implementation_is_a_finding_about_it(kind, text, what):
    outcome, reason = outcome_of(f'raise {kind}("{text}")')
    assert outcome == "disagrees"
    assert reason.startswith(f"{what}: {kind}: ")
    assert reason.endswith("(model.py, line 2)")
    assert "\x1b" not in reason


@pytest.mark.parametrize(("kind", "text", "what"), FINDINGS, ids=lambda value: str(value)[:40])
def test_the_same_error_elsewhere_is_a_crash(kind, text, what):
    assert outcome_of(f'raise {kind}("{text}")', "faceoff.worker.other")[0] == "crashed"


class InvalidArgumentError(Exception):
    """Named as TensorFlow's."""


def test_the_tensorflow_error_of_an_eager_operation_is_a_finding_too():
    error = InvalidArgumentError("cannot compute MatMul as input #1 was expected to be a double tensor but is a float")
    assert outcome_of("raise error", error=error)[0] == "disagrees"


@pytest.mark.parametrize(
    ("statement", "outcome"),
    [
        ("raise RuntimeError('INTERNAL: the compiler failed')", "crashed"),
        ("raise OSError('no space left on device, dtype float32')", "crashed"),
        ("raise RuntimeError('CUDA error: an illegal memory access; dtype float32')", "crashed"),
        ("raise RuntimeError('cuDNN: CUDNN_STATUS_NOT_INITIALIZED, shape (3,)')", "crashed"),
        ("raise RuntimeError('addmm not implemented for dtype Half')", "unsupported"),
        ("raise RuntimeError('out of memory for an array of shape (3,)')", "out_of_memory"),
        ("raise ImportError('cannot import name dtype')", "missing"),
    ],
)
def test_what_is_no_fault_of_an_implementation_keeps_its_outcome(statement, outcome):
    assert outcome_of(statement)[0] == outcome


@pytest.mark.parametrize(
    ("statement", "what"), [("{}['gamma']", "no such name"), ("[][3]", "no such element"), ("lengt", "no such name")]
)
def test_a_name_that_an_implementation_lacks_is_a_finding_unless_it_is_missed_in_the_framework(statement, what):
    outcome, reason = outcome_of(statement)
    assert (outcome, reason.partition(":")[0]) == ("disagrees", what)
    deep = compile(f"def call():\n    {statement}", "/site-packages/framework/internal.py", "exec")
    inside: dict = {"__name__": "framework.internal"}
    exec(deep, inside)
    assert outcome_of("call()", call=inside["call"])[0] == "crashed"


def test_only_arrays_of_numbers_are_values():
    np.testing.assert_array_equal(as_array("outputs", np.ones(2)), np.ones(2))
    assert as_array("loss", np.float32(3)).dtype == np.float32
    for value, got in (
        (None, "NoneType"),
        ((np.ones(2), None), "tuple of 2"),
        ({"a": 1}, "dict of 1"),
        ("1.0", "str"),
        (object(), "object"),
        (np.ones(2, complex), "complex128"),
        (np.zeros(2, [("float0", "V")]), "float0"),
    ):
        with pytest.raises(FindingError, match=got):
            as_array("outputs", value)


def test_none_in_a_dict_is_left_out_and_whatever_else_is_no_array_is_a_finding():
    assert set(as_arrays("gradient of {}", {"a": np.ones(1), "b": None})) == {"a"}
    with pytest.raises(FindingError, match=r"gradient of 'b'.*list of 1"):
        as_arrays("gradient of {}", {"b": [np.ones(1)]})
    with pytest.raises(FindingError, match="NoneType"):
        as_arrays("weight {}", None)


def test_gradients_are_a_loss_and_two_dicts():
    found = as_gradients({"loss": np.float64(1), "weights": {"w": np.ones(1)}, "inputs": {"x": None}})
    assert (set(found["weights"]), found["inputs"]) == ({"w"}, {})
    for wrong in (None, {"loss": np.float64(1)}, (np.float64(1), {}, {})):
        with pytest.raises(FindingError, match="gradients"):
            as_gradients(wrong)
    with pytest.raises(FindingError, match="loss"):
        as_gradients({"loss": None, "weights": {}, "inputs": {}})


def test_losses_of_training_steps_are_of_one_shape():
    assert as_losses([np.float32(1), np.float32(2)]).shape == (2,)
    for wrong in ([np.float32(1), None], [np.ones(2), np.ones(3)]):
        with pytest.raises(FindingError, match="loss of a training step"):
            as_losses(wrong)


def test_a_finding_of_the_worker_s_own_disagrees():
    said = describe_error(FindingError("no array", where="outputs", got="tuple of 2", expected="an array"))
    assert (said["outcome"], said["device_lost"]) == ("disagrees", False)
    assert said["reason"] == "outputs: no array; got tuple of 2, expected an array"


def quantity(name: str, agrees: bool = False, problem: str = "") -> Quantity:
    return Quantity(
        name=name, agrees=agrees, error=1.0, noise_units=9.0, limit=8.0, worst_index=[0], got=0.0, reference=1.0,
        problem=problem,
    )  # fmt: skip


def test_a_gradient_that_is_missing_or_zero_everywhere_says_what_that_means():
    names = ["gradient of 'w'", "gradient of input 'c0'", "outputs", "gradient of 'v'"]
    got = {"gradient of 'w'": np.zeros(2), "outputs": np.zeros(2), "gradient of 'v'": np.array([0.0, 1.0])}
    found = {q.name: q.problem for q in explained([quantity(name) for name in names], got)}
    assert found["gradient of input 'c0'"] == MISSING_GRADIENT
    assert found["gradient of 'w'"].startswith("zero everywhere: the loss does not depend on it")
    assert found["outputs"] == found["gradient of 'v'"] == ""


def test_zeros_where_there_should_be_zeros_need_no_explanation():
    (found,) = explained([quantity("gradient of 'w'", agrees=True)], {"gradient of 'w'": np.zeros(2)})
    assert found.problem == ""


def test_what_could_not_be_had_is_a_quantity_with_the_answer_as_its_problem():
    error = WorkerError("`forward` failed: wrong dtype", outcome="disagrees", request="forward", reason="wrong dtype")
    found = unfinished(error)
    assert (found.name, found.agrees, found.problem) == ("outputs", False, "wrong dtype")
