"""A user's model from its folder to a `Port`, with workers that answer what they are told to."""

import numpy as np
import pytest

from faceoff.core.errors import InputError, WorkerError
from faceoff.core.own import Port
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.ports.opening import open_port
from tests.unit.ports.layouts import Holds, numbers

ONE, TWO, THREE = FRAMEWORKS.usual[:3]


class Answering:
    """In place of a worker."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def request(self, kind, **body):
        self.asked.append((kind, body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def failure(outcome, reason):
    return WorkerError("`open_side` failed: " + reason, outcome=outcome, reason=reason, where="worker")


@pytest.fixture
def folder(tmp_path):
    sides = "".join(f"[sides.{name}]\n" for name in (ONE, TWO, THREE))
    (tmp_path / "port.toml").write_text(f'name = "m"\nloss = "squared-error"\ninputs.x.shape = [3]\n{sides}')
    for name in (ONE, TWO, THREE):
        (tmp_path / f"{name}_model.py").write_text("")
    return tmp_path


@pytest.fixture
def answers():
    a, b, c = Holds(), Holds(), Holds()
    for index in range(2):
        weight, bias = numbers(3, 3), numbers(3)
        a.linear(f"net.{index}", weight, bias)
        b.dense("dense" + f"_{index}" * index, weight, bias)
        c.dense(f"net.{index}", weight, bias, ".")
    return {ONE: a.reply(), TWO: b.reply(), THREE: c.reply()}


def opened(folder, answers, seed=7):
    workers = {name: Answering(answer) for name, answer in answers.items()}
    lines = []

    def pool_of(framework):
        if framework not in workers:
            raise WorkerError("not installed", outcome="missing", where=framework, next_step="pip install it")
        return workers[framework]

    return open_port(folder, pool_of, seed, lines.append), workers, lines


def test_every_side_is_asked_and_the_references_numbers_are_kept(folder, answers):
    port, workers, lines = opened(folder, answers)
    for name, worker in workers.items():
        assert worker.asked == [("open_side", {"file": str(folder.resolve() / f"{name}_model.py"), "seed": 7})]
    assert list(port.sides) == [ONE, TWO, THREE]
    assert port.reference == ONE
    assert list(port.initial) == list(port.weights) == ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]
    for name, value in port.initial.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, answers[ONE]["arrays"][name])
    for side in (TWO, THREE):
        for path, value in port.sides[side].to_side(port.initial).items():
            np.testing.assert_array_equal(value, answers[side]["arrays"][path])
    assert len(lines) == 1
    assert f"sides.{TWO}: 4 of 4 weights are paired by their order alone" in lines[0]
    assert Port.from_json(port.to_json()) == port


def test_a_framework_that_is_missing_is_left_out_with_a_notice(folder, answers):
    del answers[TWO]
    port, _, lines = opened(folder, answers)
    assert list(port.sides) == [ONE, THREE]
    assert len(lines) == 1
    assert f"sides.{TWO}: left out, {TWO}: not installed; pip install it" in lines[0]


def test_but_not_the_references(folder, answers):
    del answers[ONE]
    with pytest.raises(InputError, match=f"sides.{ONE}: the reference's framework is missing; got .*; install it, or"):
        opened(folder, answers)


def test_each_side_that_cannot_be_opened_has_its_line(folder, answers):
    answers[ONE] = failure("crashed", "NameError: name 'nn'\n  is not defined")
    answers[THREE] = failure("timeout", "no answer")
    with pytest.raises(InputError) as told:
        opened(folder, answers)
    lines = str(told.value).splitlines()
    assert len(lines) == 2
    for line, name, said in zip(lines, (ONE, THREE), ("NameError: name 'nn' is not defined", "no answer"), strict=True):
        where = folder.resolve() / "port.toml"
        steps = "raise --timeout, or mend" if name == THREE else "mend"
        assert line == (
            f"{where}: sides.{name}: this side cannot be opened; got {said}; {steps} {folder.resolve() / name}_model.py"
        )


def test_a_side_whose_package_is_missing_is_told_to_install_it(folder, answers):
    answers[TWO] = failure("unsupported", "model.py: needs the module 'vision', which is not here")
    with pytest.raises(InputError, match=f"needs the module 'vision'.*; install it where {TWO} runs, or mend"):
        opened(folder, answers)


def test_one_that_cannot_be_opened_is_one_error(folder, answers):
    answers[TWO] = failure("crashed", "no build()")
    with pytest.raises(InputError, match="this side cannot be opened; got no build"):
        opened(folder, answers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda reply: (reply["weights"].clear(), reply["arrays"].clear()), "a model without weights"),
        (lambda reply: reply["weights"].append(reply["weights"][0]), "told twice, or without its numbers"),
        (lambda reply: reply["arrays"].pop("dense/kernel"), "told twice, or without its numbers; got dense/kernel"),
        (lambda reply: reply["arrays"]["dense/bias"].fill(np.nan), "not finite; got dense/bias"),
    ],
)
def test_replies_that_are_none(folder, answers, change, said):
    change(answers[TWO])
    with pytest.raises(InputError, match=said):
        opened(folder, answers)


def test_a_line_for_the_shell_goes_to_standard_error(folder, answers, capsys):
    open_port(folder, lambda framework: Answering(answers[framework]), 1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "by their order alone" in captured.err
