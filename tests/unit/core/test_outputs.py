"""What a user's own model may return, and what its parts are called."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.outputs import named_leaves, one_or_named, scored

A, B, C = (np.full(2, float(number)) for number in range(3))
Pair = namedtuple("Pair", "mean spread")


def is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (A, [""]),
        ((A, B), ["0", "1"]),
        ({"logits": A, "hidden": B}, ["logits", "hidden"]),
        ({"logits": A, "states": [B, (C, None)]}, ["logits", "states.0", "states.1.0"]),
        (Pair(A, {"deep": B}), ["mean", "spread.deep"]),
        ([A, None, B], ["0", "2"]),
    ],
)
def test_every_array_has_a_name(outputs, names):
    assert list(named_leaves(outputs, is_array, "model.py")) == names


@pytest.mark.parametrize("outputs", [A, (A,), [[A, None]], {"only": A}])
def test_one_array_is_itself_however_it_is_wrapped(outputs):
    assert one_or_named(outputs, is_array, "model.py") is A
    assert scored(outputs, "", is_array, "model.py") is A


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ("text", "model.py: its outputs are no array of real numbers; got str"),
        ((A, "text"), "model.py: output '1' is no array of real numbers; got str"),
        ({"classes": np.arange(3)}, "model.py: output 'classes' is no array of real numbers; got int64"),
        (None, "model.py: returned no outputs; got NoneType"),
        (((), []), "model.py: returned no outputs; got tuple"),
    ],
)
def test_what_is_no_array_is_named(outputs, said):
    with pytest.raises(InputError) as error:
        one_or_named(outputs, is_array, "model.py")
    assert str(error.value).startswith(said)


def test_a_loss_is_of_the_output_that_is_named():
    outputs = {"logits": A, "states": (B, C)}
    assert scored(outputs, "logits", is_array, "model.py") is A
    assert scored(outputs, "states.1", is_array, "model.py") is C


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "model.py: several outputs, and none is named for the loss; expected one of 'logits', 'hidden'"),
        ("logit", "model.py: no output of this name; got logit, expected one of 'logits', 'hidden'"),
    ],
)
def test_a_loss_of_no_output_is_one_line_that_names_them(name, said):
    with pytest.raises(InputError) as error:
        scored({"logits": A, "hidden": B}, name, is_array, "model.py")
    assert str(error.value).startswith(said)
    assert 'output = "NAME"' in str(error.value)
