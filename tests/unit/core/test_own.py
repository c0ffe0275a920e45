"""What a process of an environment is told of a user's model that has several sides in its framework."""

import pytest

from faceoff.core.errors import InputError
from faceoff.core.own import Input, Placed, Port, PortSide, Targets

SIDES = {
    name: PortSide(f"{name}.py", {"w": Placed(f"{name}.w", (0,))}, layers={"first": f"{name}.first"})
    for name in ("one", "one@after", "two")
}


def port(reference):
    return Port("m", (Input("x", (3,)),), Targets((3,)), "squared-error", -1, {"w": (3,)}, SIDES, reference)


@pytest.mark.parametrize(
    ("reference", "framework", "file", "is_reference"),
    [
        ("one", "one", "one.py", True),
        ("one", "one@after", "one@after.py", False),
        ("one", "one@newer", "one.py", True),
        ("one@after", "one@after", "one@after.py", True),
        ("one@after", "one", "one.py", False),
        ("two", "one@after", "one@after.py", False),
        ("one@after", "two", "two.py", False),
    ],
)
def test_a_process_finds_its_own_side_by_the_name_of_its_framework(reference, framework, file, is_reference):
    seen = Port.from_json(port(reference).seen_by(framework).to_json())
    name = framework.partition("@")[0]
    assert seen.side(name).file == file
    # The reference's layers are also those that other sides name as its.
    assert ("first" in seen.layers_of(name)) == is_reference


def test_a_framework_without_a_side_is_told():
    with pytest.raises(InputError, match="no side in this framework; got three@old, expected one, one@after, two"):
        port("one").side("three@old")
