"""`faceoff check`: what a framework promises is asked of it, and each promise that is not kept is named."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from faceoff.conformance.checks import OF_EACH_MODEL, OF_ONE_MODEL, name_of
from tests.contract.plain import edit, faceoff

FORWARD = "        return self._layers(batch[0])[-1]\n"


class Author:
    """Whoever writes a framework, in a folder of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = self.faceoff("new", "framework", "mine")
        assert made.returncode == 0, made.stderr
        self.source, self.manifest = folder / "mine" / "__init__.py", folder / "mine" / "framework.toml"

    def faceoff(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return faceoff(self.folder, *arguments)

    def broken(self, status: int = 1) -> dict[str, str]:
        """The promises that are not kept, with reasons; agreement is not asked for."""
        done = self.faceoff("check", "mine", "--no-agreement", "--json", "--quiet")
        assert done.returncode == status, done.stdout + done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
        return {row["check"]: f"{row['outcome']}: {row['reason']}" for row in rows if row["outcome"] != "ok"}


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path)


def test_what_is_drafted_keeps_every_promise_and_agrees(author: Author) -> None:
    done = author.faceoff("check", "mine", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    promises = {name_of(check) for check in (*OF_EACH_MODEL, *OF_ONE_MODEL)}
    assert all(promise in done.stdout for promise in promises)
    assert "agrees with the reference, float64" in done.stdout
    assert f"{len(promises) + 3} of {len(promises) + 3} promises kept" in done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("there", "written", "promise", "said"),
    [
        ("value.copy() for name, value in self._weights", "value * 1.0000001 for name, value in self._weights",
         "weights round trip", "differs by"),
        ("        found = {}\n", "        found = {}\n        self._weights['layer.0.bias'] += 1\n",
         "gradients change nothing", "weights after `gradients`"),
        (FORWARD, "        self.held = getattr(self, 'held', self._layers(batch[0])[-1])\n        return self.held\n",
         "results stay", "another batch gave the same value"),
        ("self._rule.learning_rate * step)", "0 * step)", "training moves", "expected falling ones"),
        ("        self._state = {kind", "        self._state = self._state if hasattr(self, '_state') else {kind",
         "reset is whole", "not zero after a reset"),
        ('f"layer.{index}": value for index, value in enumerate(self._layers(batch[0])[1:])',
         'f"layer {index}": value for index, value in enumerate(self._layers(batch[0])[1:])',
         "trace has all names", "expected ['layer.0'"),
        ("self._weights = {name: np.array(value, dtype=self._dtype)",
         "self._weights = {name: np.array(value, dtype='float64')", "dtypes are what they say", "as the other"),
        ("        if mode != \"eager\":\n            raise UnsupportedError(f\"no mode {mode!r}\")\n", "",
         "bad input is refused", "unknown mode"),
        ('return ("eager",)', 'return ("eager", "fast")', "starts as declared", "modes"),
        (FORWARD, "        import time\n        return None\n", "results stay", ""),
        (FORWARD, "        raise SystemExit(3)\n", "results stay", "crashed"),
        (FORWARD, "        print('x' * 10**6)\n        return {'a': 1}\n", "results stay", ""),
        (FORWARD, "        import os\n        if os.fork() == 0:\n            os._exit(0)\n" + FORWARD, "", ""),
        ("        return {}\n\n    def stream", "        return 'much'\n\n    def stream", "memory is given back", ""),
    ],
    ids=["weights", "moved", "stale", "no-step", "state", "names", "wide", "mode", "modes", "nothing", "exits",
         "prints", "forks", "nonsense"],
)  # fmt: skip
def test_each_broken_promise_is_named(author: Author, there: str, written: str, promise: str, said: str) -> None:
    edit(author.source, there, written)
    found = author.broken(status=1 if promise else 0)
    if promise:
        assert said in found[promise], found


def test_what_works_and_is_not_declared_is_named(author: Author) -> None:
    edit(author.manifest, '["float64", "float32"]', '["float64"]')
    assert "float32: they work" in author.broken()["nothing more works"]


def test_what_is_declared_and_does_not_work_is_named(author: Author) -> None:
    edit(author.manifest, '["dense"]', '["dense", "lstm"]')
    assert "no lstm models" in author.broken()["weights round trip"]


def test_what_is_written_into_the_home_folder_is_named(author: Author) -> None:
    edit(author.source, FORWARD, "        open(__import__('os').path.expanduser('~/litter'), 'w').close()\n" + FORWARD)
    assert "litter" in author.broken()["writes nothing outside its cache"]


@pytest.mark.thorough
def test_a_wrong_gradient_is_found_by_agreement(author: Author) -> None:
    edit(author.source, "grad /= len(x)", "grad /= len(x) + 1")
    done = author.faceoff("check", "mine", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (1, "")
    rows = json.loads(done.stdout)["rows"]
    assert {row["check"] for row in rows if row["outcome"] != "ok"} == {
        "agrees with the reference, float64", "agrees with the reference, float32",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "framework", "Mine"], "no name for a framework"),
        (["new", "framework", "mine"], "there is a framework of this name"),
        (["new", "framework", "other", "--dir", "mine"], "is there already"),
        (["check", "nothing"], "unknown framework"),
    ],
)
def test_bad_input_is_one_line(author: Author, arguments: list[str], said: str) -> None:
    done = author.faceoff(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_who_is_not_installed_is_missing(author: Author) -> None:
    edit(author.manifest, 'module = "numpy"', 'module = "no_such_module"')
    done = author.faceoff("check", "mine", "--quiet")
    assert done.returncode == 3
    assert "no module named 'no_such_module'" in done.stdout
