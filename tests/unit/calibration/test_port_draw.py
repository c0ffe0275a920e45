"""Random sizes of users' own models: what is drawn, and what is written of it."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from faceoff.ports.manifest import read_port
from tests.calibration.port_draw import KINDS, draw_port, folder_of, with_constants

NUMBERS = range(5 * len(KINDS))
CASES = [draw_port(3, number, 2) for number in NUMBERS]


def constants_of(text: str) -> dict[str, object]:
    """Every constant at the top of a module."""
    found: dict[str, object] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            (target,) = node.targets
            names = ast.unparse(target).strip("()").split(", ")
            value = ast.literal_eval(node.value)
            found.update(zip(names, value if len(names) > 1 else [value], strict=True))
    return found


def test_a_case_depends_on_seed_and_number_alone():
    assert [draw_port(3, number, 2) for number in NUMBERS] == CASES
    assert draw_port(4, 0, 2) != CASES[0]


def test_all_kinds_take_turns_and_sizes_differ():
    assert Counter(case.kind for case in CASES) == dict.fromkeys(KINDS, 5)
    for kind in KINDS:
        assert len({str(case.sizes) for case in CASES if case.kind == kind}) == 5


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_every_file_has_the_drawn_constants_and_the_manifest_says_the_same(tmp_path, number):
    case = CASES[number]
    folder = case.write(tmp_path)
    written = {file.name: constants_of(file.read_text()) for file in folder.glob("*_model.py")}
    there = {file.name: constants_of(file.read_text()) for file in folder_of(case.kind).glob("*_model.py")}
    assert {name: set(found) for name, found in written.items()} == {name: set(found) for name, found in there.items()}
    for name, found in written.items():
        assert found == {**there[name], **{key: v for key, v in case.sizes.constants.items() if key in there[name]}}
    # A constant that no file has would be a size that is drawn and not used.
    assert set(case.sizes.constants) <= {key for found in written.values() for key in found}
    port = read_port(folder)
    assert {name: table.shape for name, table in port.inputs.items()} == dict(case.sizes.inputs)
    assert (port.targets.shape, port.targets.classes) == (case.sizes.targets, case.sizes.classes)
    assert all(table.below == case.sizes.tokens for table in port.inputs.values() if table.dtype == "int64")


def test_constants_that_are_not_named_stay():
    text = '"""Text."""\n\nONE, TWO = 1, "a"\nTHREE = (1, 2)\n\n\ndef f():\n    return ONE\n'
    assert with_constants(text, {"TWO": "b"}) == text.replace('"a"', "'b'")
