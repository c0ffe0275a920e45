"""Several environments of one framework in one run: other versions, and other states of its folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from faceoff import between_environments, load
from faceoff.core.errors import InputError, ResultFileError
from faceoff.frameworks.environments import FROZEN, describe_changes
from tests.contract.plain import ROOT, faceoff, write_plain

OLD = "1.26.4"
SMALL = ("--preset", "small", "--models", "dense", "--quiet")


class Workplace:
    """A working folder with a git repository that holds the framework; its first state computes a wrong gradient."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_plain(folder / "plain")
        source = folder / "plain" / "__init__.py"
        right = source.read_text()
        wrong = right.replace("grad /= len(x)", "grad /= len(x) + 1")
        assert wrong != right
        source.write_text(wrong)
        self.git("init", "-q")
        self.git("add", "plain")
        self.git("commit", "-q", "-m", "wrong")
        source.write_text(right)
        self.git("commit", "-q", "-a", "-m", "right")
        self.config = folder / "faceoff.toml"
        self.config.write_text('# mine\n[frameworks.plain]\npath = "plain"\n')

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True)

    def faceoff(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return faceoff(self.folder, *arguments)

    def told(self) -> dict[str, Any]:
        return tomllib.loads(self.config.read_text())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With an environment of an older NumPy, and one of the framework's first state."""
    place = Workplace(tmp_path_factory.mktemp("filled"))
    made = place.faceoff("env", "create", "plain@old", "--with", f"numpy=={OLD}", "--quiet")
    assert made.returncode == 0, made.stdout + made.stderr
    made = place.faceoff("env", "create", "plain@first", "--from", "HEAD~1")
    assert made.returncode == 0, made.stdout + made.stderr
    return place


@pytest.fixture(scope="module")
def timed(filled: Workplace) -> Path:
    """The result of a run of two environments of one version each."""
    options = (*SMALL, "--contenders", "plain@old,plain", "--steps", "inference", "--budget", "quick", "--out", "out")
    done = filled.faceoff("bench", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return filled.folder / "out" / "result.json"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_what_is_made_is_frozen_and_named_and_all_else_in_the_file_stays(filled: Workplace) -> None:
    assert filled.config.read_text().startswith("# mine\n")
    old, first = (filled.told()["environments"][name] for name in ("plain@old", "plain@first"))
    assert f"numpy=={OLD}\n" in (Path(old["folder"]) / FROZEN).read_text()
    assert "path" not in old
    # Another state of the code alone needs no interpreter of its own.
    assert "python" not in first
    assert "len(x) + 1" in (Path(first["path"]) / "__init__.py").read_text()


def test_both_are_checked_timed_and_told_apart_everywhere(timed: Path) -> None:
    result = load(timed)
    infos = {info.contender: info for info in result.contenders}
    assert list(infos) == ["plain@old:eager", "plain:eager"]
    assert infos["plain@old:eager"].versions == {"numpy": OLD}
    assert infos["plain:eager"].versions != {"numpy": OLD}
    assert infos["plain@old:eager"].installed != infos["plain:eager"].installed != ""
    assert {a.contender: a.outcome for a in result.agreements} == dict.fromkeys(infos, "ok")
    assert {case.contender for case in result.cases if case.speed} == set(infos)
    assert len(result.comparisons) == 1
    page = timed.with_name("page.html").read_text()
    assert "plain@old:eager" in page
    assert "plain:eager" in page.replace("plain@old:eager", "")
    assert OLD in page


def test_one_command_says_what_the_change_brings(filled: Workplace, timed: Path) -> None:
    done = filled.faceoff("diff", str(timed), "--env", "old", "--threshold", "1000", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (case,) = told["cases"]
    assert (case["contender"], told["one_run"]) == ("plain:eager", True)
    comparison = load(timed).comparisons[0]
    # The same rounds, whichever of the two the run took as its baseline.
    upwards = case["ratio"] if comparison.contender == "plain:eager" else 1 / case["ratio"]
    assert upwards == pytest.approx(comparison.ratio)
    assert {(change["what"], change["before"]) for change in told["settings"]} >= {("numpy", OLD)}


def test_the_other_way_round_the_ratio_is_turned_over(timed: Path) -> None:
    result = load(timed)
    for info in (*result.contenders, *result.agreements, *result.cases):
        info.contender = {"plain@old:eager": "plain@a:eager", "plain:eager": "plain@b:eager"}[info.contender]
    there, back = (between_environments(result, pair).cases[0] for pair in ("a,b", "b,a"))
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.interval == pytest.approx((1 / back.interval[1], 1 / back.interval[0]))


@pytest.mark.parametrize(("pair", "error"), [("", InputError), ("old,old", InputError), ("nowhere", ResultFileError)])
def test_what_is_not_there_cannot_be_compared(timed: Path, pair: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        between_environments(timed, pair)


def test_an_earlier_state_of_the_folder_is_what_runs(filled: Workplace) -> None:
    done = filled.faceoff("agree", *SMALL, "--contenders", "plain@first,plain", "--out", "agree")
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = {(a.contender, a.outcome) for a in load(filled.folder / "agree" / "result.json").agreements}
    assert outcomes == {("plain@first:eager", "disagrees"), ("plain:eager", "ok")}


def test_an_earlier_state_brings_what_the_folder_shares_with_others(place: Workplace) -> None:
    (place.folder / "common").mkdir()
    text = place.folder / "common" / "kernels.cl"
    text.write_text("earlier")
    manifest = place.folder / "plain" / "framework.toml"
    manifest.write_text(f'shares = ["common"]\n{manifest.read_text()}')
    place.git("add", "plain", "common")
    place.git("commit", "-q", "-m", "shared")
    text.write_text("now")
    made = place.faceoff("env", "create", "plain@shared", "--from", "HEAD")
    assert made.returncode == 0, made.stdout + made.stderr
    folder = Path(place.told()["environments"]["plain@shared"]["path"])
    assert (folder.parent / "common" / "kernels.cl").read_text() == "earlier"
    done = place.faceoff("agree", "--contenders", "plain@shared", *SMALL, "--out", "shared")
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_listed(filled: Workplace) -> None:
    told = json.loads(filled.faceoff("list", "--json").stdout)["frameworks"]
    assert told["plain@old"]["contenders"] == ["plain@old:eager", "plain@old:tuned"]
    assert told["plain@old"]["versions"] == {"numpy": OLD}
    states = json.loads(filled.faceoff("env", "list", "--json").stdout)
    assert {name: (state["problem"], state["changed"]) for name, state in states.items()} == {
        "plain@old": ("", ""),
        "plain@first": ("", ""),
    }


def test_they_take_part_only_where_they_are_named(filled: Workplace) -> None:
    done = filled.faceoff("agree", *SMALL, "--contenders", "plain", "--out", "plain-alone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [info.contender for info in load(filled.folder / "plain-alone" / "result.json").contenders] == [
        "plain:eager"
    ]


def test_what_was_installed_since_is_told(place: Workplace) -> None:
    assert place.faceoff("env", "create", "plain@now", "--from", "HEAD", "--quiet").returncode == 0
    folder = Path(place.told()["environments"]["plain@now"]["folder"])
    frozen = (folder / FROZEN).read_text()
    (folder / FROZEN).write_text(frozen.replace("numpy==", "numpy==0"))
    place.config.write_text(place.config.read_text().replace('installed = "', 'installed = "0'))
    (state,) = json.loads(place.faceoff("env", "list", "--json").stdout).values()
    assert state["changed"].startswith("numpy 0")


def test_changes_are_named_up_to_a_few() -> None:
    then = {"a": "1", "b": "1", "same": "1"}
    assert describe_changes(then, {"a": "2", "c": "1", "same": "1"}) == "a 1 -> 2, b removed, c added"
    many = {f"package{number}": "1" for number in range(9)}
    assert describe_changes({}, many).endswith("package3 added and 5 more")


def test_removing_takes_away_what_was_made_and_nothing_else(place: Workplace) -> None:
    assert place.faceoff("env", "create", "plain@now", "--from", "HEAD", "--quiet").returncode == 0
    mine = place.folder / "mine"
    mine.mkdir()
    with place.config.open("a") as file:
        file.write(f'[environments."plain@mine"]\npython = "{sys.executable}"\nfolder = "{mine}"\n')
    done = [place.faceoff("env", "remove", name) for name in ("plain@now", "plain@mine", "plain@mine")]
    assert [each.returncode for each in done] == [0, 0, 2]
    assert "was not made by" in done[1].stdout
    assert "no such environment" in done[2].stderr
    assert not (place.folder / ".venv-plain-now").exists()
    assert mine.exists()
    assert place.told() == {"frameworks": {"plain": {"path": "plain"}}}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plain@"], "no name for an environment"),
        (["plain@a/b"], "no name for an environment"),
        (["nothing@old"], "unknown framework"),
        (["plain@x", "--from", "no-such-revision"], "no such state of the framework's folder"),
        (["plain", "--from", "HEAD"], "only for an environment"),
        (["plain@x", "--with", "numpy=!1"], "no requirement"),
        (["plain@x", "--python", "/no/such/python"], "no such interpreter"),
        (["plain@x", "--gpu"], "no build for GPUs is known"),
        (["plain@taken"], "named in faceoff.toml already"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(place: Workplace, arguments: list[str], said: str) -> None:
    with place.config.open("a") as file:
        file.write(f'[environments."plain@taken"]\npython = "{sys.executable}"\n')
    before = place.config.read_text()
    if shutil.which("uv") and "--python" in arguments:
        pytest.skip("uv looks for interpreters by itself")
    done = place.faceoff("env", "create", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert place.config.read_text() == before
    assert [path.name for path in place.folder.glob(".venv*")] == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("told", "outcome", "said"),
    [
        ('python = "gone/bin/python"', "missing", "cannot be run"),
        # An interpreter without NumPy, which is this framework.
        ('python = "empty/bin/python"', "missing", "no module named 'numpy'"),
        ('path = "gone"', None, "cannot be read"),
        ('path = "another"', None, "the folder is another framework's"),
    ],
)
def test_one_that_is_broken_stops_no_other(place: Workplace, told: str, outcome: str | None, said: str) -> None:
    with place.config.open("a") as file:
        file.write(f'[environments."plain@broken"]\n{told}\n')
    if "empty" in told:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place.folder / "empty")], check=True)
    shutil.copytree(ROOT / "impls" / "jax", place.folder / "another")
    listed = place.faceoff("env", "list")
    assert listed.returncode == 3, listed.stderr
    assert "Traceback" not in listed.stderr
    (state,) = json.loads(place.faceoff("env", "list", "--json").stdout).values()
    assert said in state["problem"]
    assert state["next_step"]
    done = place.faceoff("agree", *SMALL, "--contenders", "plain", "--out", "alone")
    assert done.returncode == 0, done.stdout + done.stderr
    done = place.faceoff("agree", *SMALL, "--contenders", "plain@broken,plain", "--out", "both")
    if outcome is None:
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        assert done.returncode == 3, done.stdout + done.stderr
        outcomes = {(a.contender, a.outcome) for a in load(place.folder / "both" / "result.json").agreements}
        assert outcomes == {("plain@broken:eager", outcome), ("plain:eager", "ok")}
