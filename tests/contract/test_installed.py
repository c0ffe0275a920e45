"""Installed as a wheel, without the repository, in a working folder whose own packages have the folders' names."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from faceoff import load
from faceoff.core.spec import Contender

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.thorough

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the installed package's interpreter in a folder of somebody's own."""
    place = tmp_path_factory.mktemp("somebody")
    venv.create(place / "venv", with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place / "venv")}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # All that it requires; the project itself is there by a .pth file, which counts only in a folder of packages.
    (site / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in ("harness", "impls", "tests", "reports"):
        (place / "own" / name).mkdir(parents=True)
        (place / "own" / name / "__init__.py").write_text("mine = True\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(place / "venv" / "bin" / "python"), *arguments]
        return subprocess.run(
            command, cwd=place / "own", env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return call


def test_the_wheel_claims_one_name(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"faceoff"}


def test_everything_comes_from_the_wheel_and_nothing_of_somebodys_own_is_hidden(run: Run) -> None:
    done = run("-c", "import faceoff, harness, impls; print(faceoff.__file__, harness.mine and impls.mine)")
    where, _, mine = done.stdout.strip().rpartition(" ")
    assert mine == "True", done.stderr
    assert not Path(where).is_relative_to(ROOT)


def test_a_framework_of_the_wheel_agrees_and_is_timed(run: Run, lightest: Contender) -> None:
    chosen = ("--preset", "small", "--models", "dense", "--contenders", str(lightest), "--budget", "quick", "--quiet")
    done = run("-m", "faceoff", "bench", *chosen, "--out", "timed")
    assert done.returncode == 0, done.stdout + done.stderr
    where = run("-c", "import pathlib; print(pathlib.Path('timed').resolve())").stdout.strip()
    result = load(Path(where) / "result.json")
    assert {case.outcome for case in result.cases} == {"ok"}
    page = (Path(where) / "page.html").read_text()
    # The page shows the files of the framework and of the reference, wherever they lie.
    assert "dense.py" in page


def test_python_and_pytest_find_it(run: Run, lightest: Contender) -> None:
    done = run(
        "-c",
        "import faceoff\n"
        f"found = faceoff.agree(preset='small', models=['dense'], contenders=['{lightest}'], dtype='float32')\n"
        "print([check.outcome for check in found.agreements])",
    )
    assert "['ok']" in done.stdout, done.stdout + done.stderr
    done = run("-m", "pytest", "-p", "no:cacheprovider", "--help")
    assert "--faceoff-contenders" in done.stdout, done.stdout + done.stderr


def test_a_new_framework_is_written_and_checked(run: Run) -> None:
    assert run("-m", "faceoff", "new", "framework", "plain").returncode == 0
    done = run("-m", "faceoff", "check", "plain")
    assert done.returncode == 0, done.stdout + done.stderr
