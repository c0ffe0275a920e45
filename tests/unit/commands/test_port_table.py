"""How the weights of a user's own model were paired is a line, and a table of what was guessed or of all."""

import io

import pytest
from rich.console import Console

from faceoff.commands.port_table import port_line, print_ports
from faceoff.results.ports import PairedModel, PairedWeight


def paired(how: str, zeros: dict[str, list[str]] | None = None) -> PairedModel:
    weights = [
        PairedWeight(name="first.weight", shape=[4, 3], sides={"a": "first.weight", "b": "dense/kernel, axes [1, 0]"},
                     how={"b": how}),
        PairedWeight(name="first.bias", shape=[4], sides={"a": "first.bias", "b": "dense/bias"}, how={"b": "name"}),
    ]  # fmt: skip
    return PairedModel(model="mine", reference="a", weights=weights, zeros=zeros or {})


def printed(port: PairedModel, whole: bool = False) -> str:
    text = io.StringIO()
    print_ports(Console(width=120, file=text), [port], whole)
    return text.getvalue()


def test_a_line_says_by_what_the_weights_were_found():
    assert port_line(paired("shape"), "b") == "mine: all 2 weights of b are paired with a's: 1 by shape, 1 by name"
    line = port_line(paired("name", {"b": ["rnn.bias_hh"]}), "b")
    assert line.endswith("2 by name; 1 of its arrays stay zero: rnn.bias_hh")


@pytest.mark.parametrize(
    ("how", "whole", "rows"), [("name", False, 0), ("order", False, 1), ("name", True, 2)], ids=str
)
def test_the_table_has_what_was_guessed_or_everything(how: str, whole: bool, rows: int):
    said = printed(paired(how), whole)
    assert said.count("\n") == (1 if not rows else said.count("\n"))
    assert ("dense/kernel, axes [1, 0]" in said) == (rows > 0)
    assert ("dense/bias" in said) == (rows > 1)


def test_of_a_deep_model_the_first_that_were_guessed_are_shown_and_the_rest_counted():
    weights = [
        PairedWeight(name=f"{n}.weight", shape=[4], sides={"a": f"{n}.weight", "b": f"dense_{n}"}, how={"b": "order"})
        for n in range(50)
    ]
    deep = PairedModel(model="deep", reference="a", weights=weights)
    said = printed(deep)
    assert said.count("dense_") == 20
    assert said.endswith("and 30 more by order; --trace shows all\n")
    assert printed(deep, whole=True).count("dense_") == 50


def test_nothing_is_printed_without_a_model_of_a_users_own():
    text = io.StringIO()
    print_ports(Console(file=text), [], whole=True)
    assert not text.getvalue()
