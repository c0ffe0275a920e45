"""The reference of the command line says what the command says, wherever it is made."""

import itertools
import os

import click
import pytest

from faceoff.commands import reference
from faceoff.commands.cli import cli


def test_the_file_is_what_the_command_says():
    there, made = reference.PATH.read_text(encoding="utf-8").splitlines(), reference.reference().splitlines()
    differing = [lines for lines in itertools.zip_longest(there, made) if lines[0] != lines[1]]
    assert not differing, f"run `python -m faceoff.commands.reference`; first of all: {differing[0]}"


@pytest.mark.parametrize("columns", ["20", "300"])
def test_it_depends_on_no_terminal_and_no_environment(columns, monkeypatch):
    expected = reference.reference()
    for name in set(os.environ) - {"HOME", "PATH"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.reference() == expected
    assert "\x1b" not in expected


def commands(group: click.Group, path: str):
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(cli, "faceoff")), ids=str)
def test_every_command_has_a_section_with_all_its_options(path, command):
    section = reference.reference().split(f"## {path}\n")[1].split("\n## ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            for name in parameter.opts:
                assert name in section
