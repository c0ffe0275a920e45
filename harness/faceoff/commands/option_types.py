"""Lists and paths on the command line."""

from __future__ import annotations

import os
from typing import Any

import click

from faceoff.ports.paths import split

# Where a sweep without an end ends, if memory does not run out before.
MOST_SIZE = 2**20


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas.

    Args:
        choices: what each may be; empty when the harness checks them itself.
    """

    name = "names"

    def __init__(self, choices: tuple[str, ...] = ()) -> None:
        self._choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return ",".join(self._choices) if self._choices else "NAMES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        for name in names:
            if self._choices and name not in self._choices:
                self.fail(f"unknown name {name!r}, expected some of {', '.join(self._choices)}", param, ctx)
        if not names:
            self.fail("no name given", param, ctx)
        return names


class Models(Names):
    """Families, and paths of users' own models, separated by commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        families, paths = split([name.strip() for name in str(value).split(",") if name.strip()])
        return (*(super().convert(",".join(families), param, ctx) if families or not paths else ()), *paths)


class HomePath(click.Path):
    """A path; `~` is the user's home also where no shell has seen to it, as in `--out=~/results`.

    Args:
        output: `-` stands for standard output; else it is refused, as a folder of that name is never meant.
        settings: as of `click.Path`.
    """

    def __init__(self, *, output: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self._output = output

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-" and not self._output:
            self.fail("- is no file or folder here; one of that name is ./-", param, ctx)
        return super().convert(os.path.expanduser(value), param, ctx)


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers of at least 1, separated by commas; `...` goes on by doubling, up to the number after it if any."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        more = [index for index, part in enumerate(parts) if part in ("...", "…")]
        try:
            sizes = [int(part) for index, part in enumerate(parts) if index not in more]
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8,64 or 1,2,4,...", param, ctx)
        for size in sizes:
            if size < 1:
                self.fail(f"{size} is not a size, expected at least 1", param, ctx)
        if not more:
            return tuple(sizes)
        if len(more) > 1 or more[0] not in (len(parts) - 1, len(parts) - 2) or more[0] < 1:
            self.fail(f"{value!r}: `...` stands after the first sizes, and at most the last one after it", param, ctx)
        first, last = sizes[: more[0]], sizes[more[0] :]
        if last and last[0] <= first[-1]:
            self.fail(f"{value!r}: {last[0]} is not above {first[-1]}", param, ctx)
        return continued(first, last[0] if last else MOST_SIZE)


def continued(first: list[int], last: int) -> tuple[int, ...]:
    """The sizes after `...`: each twice the one before, up to `last`, which is one of them if it was named."""
    sizes = list(first)
    while 2 * sizes[-1] <= last:
        sizes.append(2 * sizes[-1])
    return tuple(sizes if sizes[-1] == last or last == MOST_SIZE else [*sizes, last])
