"""A framework whose folder lies outside the project, and which `faceoff.toml` names, is one like any other."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faceoff import load
from faceoff.core.spec import Contender
from faceoff.workloads.presets import PRESETS
from faceoff.workloads.situations import by_default
from tests.contract.plain import edit, write_plain
from tests.contract.plain import faceoff as run


@pytest.fixture
def faceoff(tmp_path: Path) -> Any:
    """Runs a command in a working folder whose `faceoff.toml` names the framework."""
    write_plain(tmp_path / "plain")
    (tmp_path / "faceoff.toml").write_text('[frameworks.plain]\npath = "plain"\n')

    return partial(run, tmp_path)


def test_it_is_listed(faceoff: Any) -> None:
    told = json.loads(faceoff("list", "--json").stdout)
    assert told["frameworks"]["plain"]["contenders"] == ["plain:eager", "plain:tuned"]
    assert told["frameworks"]["plain"]["installed"]


@pytest.mark.parametrize(
    "optimiser",
    [pytest.param("sgd", marks=pytest.mark.thorough), pytest.param("momentum", marks=pytest.mark.thorough), "adam"],
)
def test_it_is_checked_timed_and_drawn(faceoff: Any, tmp_path: Path, optimiser: str) -> None:
    options = ("--preset", "small", "--models", "dense", "--contenders", "plain", "--optimiser", optimiser)
    done = faceoff("bench", *options, "--budget", "quick", "--steps", "inference,training", "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(tmp_path / "out" / "result.json")
    assert {agreement.outcome for agreement in result.agreements} == {"ok"}
    assert {agreement.workload["dtype"] for agreement in result.agreements} == {"float64", "float32"}
    assert [case.contender for case in result.cases] == ["plain:eager"] * 2
    assert "plain:eager" in (tmp_path / "out" / "page.html").read_text()


SMALL = ("--preset", "small", "--contenders", "plain", "--out", "out", "--quiet")


def test_what_it_does_not_offer_is_not_asked_of_it_and_is_no_failure(faceoff: Any, tmp_path: Path) -> None:
    done = faceoff("bench", *SMALL, "--models", "dense,lstm", "--steps", "inference", "--budget", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not offered" in done.stdout
    result = load(tmp_path / "out" / "result.json")
    outcomes = {(case.workload["model"]["kind"], case.outcome) for case in result.cases}
    assert outcomes == {("dense", "ok"), ("lstm", "not_offered")}
    assert {a.reason for a in result.agreements if a.outcome == "not_offered"} == {
        "plain:eager: Plain NumPy offers no lstm models here"
    }
    page = (tmp_path / "out" / "page.html").read_text()
    assert "not offered" in page
    assert "Plain NumPy offers no lstm models here" in page
    # It is an answer, and no problem.
    assert "What did not end ok" not in page
    assert "Not ok" not in page


def test_it_runs_beside_the_project_s_own(faceoff: Any, tmp_path: Path, lightest: Contender) -> None:
    options = ("--preset", "small", "--models", "dense", "--contenders", f"plain,{lightest}", "--out", "out", "--quiet")
    done = faceoff("bench", *options, "--steps", "inference", "--budget", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(tmp_path / "out" / "result.json")
    assert {case.contender for case in result.cases if case.speed} == {"plain:eager", str(lightest)}
    assert len(result.comparisons) == 1


@pytest.mark.thorough
def test_who_offers_no_float64_is_checked_and_timed_in_what_is_offered(faceoff: Any, tmp_path: Path) -> None:
    edit(tmp_path / "plain" / "framework.toml", '["float64", "float32"]', '["float32"]')
    done = faceoff("bench", *SMALL, "--models", "dense", "--steps", "inference", "--budget", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(tmp_path / "out" / "result.json")
    assert {a.workload["dtype"]: a.outcome for a in result.agreements} == {"float64": "not_offered", "float32": "ok"}
    assert [case.outcome for case in result.cases] == ["ok"]
    assert "plain:eager: meaning checked in float32 only" in done.stdout
    assert "Meaning checked in float32 only" in (tmp_path / "out" / "page.html").read_text()
    done = faceoff("report", "out/result.json", "--format", "md", "-o", "-")
    assert "Meaning checked in float32 only" in done.stdout, done.stderr


@pytest.mark.thorough
def test_who_offers_no_float64_meets_what_magnifies_faults_in_what_is_offered(faceoff: Any, tmp_path: Path) -> None:
    edit(tmp_path / "plain" / "framework.toml", '["float64", "float32"]', '["float32"]')
    done = faceoff(
        "agree", "--preset", "coverage", "--models", "dense", "--contenders", "plain", "--quiet", "--out", "out"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [a for a in load(tmp_path / "out" / "result.json").agreements if a.outcome == "ok"]
    stressed = next(sized for sized in PRESETS["coverage"].sized if sized.stressed)
    assert {a.situation for a in checks} == set(by_default(stressed.model, "float64"))
    assert {a.workload["dtype"] for a in checks} == {"float32"}


def test_what_it_offers_and_cannot_do_is_a_failure(faceoff: Any, tmp_path: Path) -> None:
    edit(tmp_path / "plain" / "framework.toml", '["dense"]', '["dense", "lstm"]')
    done = faceoff("agree", *SMALL, "--models", "lstm")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no lstm models" in done.stdout


def test_what_is_wrong_in_it_is_found(faceoff: Any, tmp_path: Path) -> None:
    edit(tmp_path / "plain" / "__init__.py", "grad /= len(x)", "grad /= len(x) + 1")
    done = faceoff("agree", *SMALL, "--models", "dense")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "first difference: gradient of 'layer.2.bias' (backward)" in done.stdout + done.stderr
