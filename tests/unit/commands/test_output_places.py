"""Where output goes: what `-` stands for, folders of runs that begin in the same second, and what is refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faceoff.commands.cli import main
from faceoff.core.errors import InputError
from faceoff.results.file import save
from faceoff.run.out_folder import prepare_folder
from tests.unit.results.samples import main_job

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(main_job(), tmp_path / "r.json")


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.mark.parametrize(("layout", "begins"), [("csv", "result,"), ("md", "#"), ("html", "<!doctype html>")])
def test_a_dash_is_standard_output(layout, begins, capsys):
    assert run("report", "r.json", "--format", layout, "-o", "-") == 0
    assert capsys.readouterr().out.lower().startswith(begins)
    assert not Path("-").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "r.json", "--format", "svg", "-o", "-"],
        ["report", "r.json", "-o", "-", "--json"],
        ["compare", "--out", "-"],
        ["agree", "--resume", "-"],
        ["bench", "--out=-"],
        ["env", "create", "jax", "--dir", "-"],
    ],
)
def test_a_dash_that_cannot_be_meant_is_refused_in_a_line(arguments, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "- is no " in error
    assert not Path("-").exists()


def test_a_table_goes_through_a_link(capsys):
    Path("target.csv").write_text("old")
    Path("link.csv").symlink_to("target.csv")
    assert run("report", "r.json", "--format", "csv", "-o", "link.csv") == 0
    assert Path("link.csv").is_symlink()
    assert Path("target.csv").read_text().startswith("result,")


def test_a_settings_file_that_is_a_link_stays_one():
    from faceoff.frameworks.environments import name_interpreter

    Path("dotfiles").mkdir()
    Path("dotfiles/faceoff.toml").write_text("timeout_s = 300\n")
    Path("faceoff.toml").symlink_to("dotfiles/faceoff.toml")
    name_interpreter("jax", "/opt/python")
    assert Path("faceoff.toml").is_symlink()
    assert "/opt/python" in Path("dotfiles/faceoff.toml").read_text()


def test_runs_that_begin_in_one_second_have_a_folder_each():
    with ThreadPoolExecutor(8) as executor:
        folders = list(executor.map(prepare_folder, [None] * 8))
    assert len(set(folders)) == 8
    assert all((folder / "logs").is_dir() for folder in folders)
    assert {path.name for folder in folders for path in folder.iterdir()} == {"logs"}


def test_runs_that_prove_one_folder_at_once_do_not_disturb_each_other():
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(prepare_folder, ["out"] * 40)) == [Path("out")] * 40


def test_where_no_folder_can_be_made_is_said():
    Path("reports").write_text("")
    with pytest.raises(InputError, match="reports"):
        prepare_folder(None)


def test_processes_that_begin_in_one_second_have_a_folder_each():
    code = "from faceoff.run.out_folder import prepare_folder; print(prepare_folder(None))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT / "harness")}
        )
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in processes}) == 3
