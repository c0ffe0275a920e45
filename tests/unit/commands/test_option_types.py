"""Lists on the command line: sizes one by one, and those that go on by doubling."""

import click
import pytest

from faceoff.commands.option_types import MOST_SIZE, Sizes


def sizes(text):
    return Sizes().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8", (8,)),
        ("1, 8,64", (1, 8, 64)),
        ("1,2,4,...,32", (1, 2, 4, 8, 16, 32)),
        ("3,...,20", (3, 6, 12, 20)),
        ("5,...,10", (5, 10)),
        ("5,…,6", (5, 6)),
    ],
)
def test_sizes_are_read(text, found):
    assert sizes(text) == found


def test_without_an_end_they_double_as_far_as_there_is_any_sense_in_it():
    found = sizes("1,2,4,...")
    assert found[:4] == (1, 2, 4, 8)
    assert found[-1] == MOST_SIZE


@pytest.mark.parametrize("text", ["", "a", "0", "-1", "...", "...,8", "1,...,8,16", "1,...,...", "8,...,4", "1,...,1"])
def test_what_is_no_list_of_sizes_is_refused(text):
    with pytest.raises(click.BadParameter):
        sizes(text)
