"""Where output goes: what `-` stands for, folders of runs that begin in the same second, and what is refused."""

import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faceoff.commands.cli import main
from faceoff.core.errors import InputError
from faceoff.results.file import make_folder, save
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


@pytest.mark.parametrize("layout", ["html", "md"])
def test_a_result_from_a_pipe_is_read_once_and_its_page_is_not_put_beside_the_pipe(layout, tmp_path):
    command = [sys.executable, "-m", "faceoff", "report", "/dev/stdin", "--format", layout]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    text = Path("r.json").read_text()
    Path("work").mkdir()
    run = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, cwd="work")
    assert run.returncode == 0, run.stderr
    assert not Path("/dev/page.html").exists()
    assert [path.name for path in Path("work").iterdir()] == (["page.html"] if layout == "html" else [])


def test_an_atlas_and_a_result_come_through_fifos_as_well(capsys):
    save(main_job(), Path("other.json"))
    writers = []
    for name in ("r.json", "other.json"):
        os.mkfifo(f"{name}.fifo")
        writers.append(subprocess.Popen(["sh", "-c", f"cat {name} > {name}.fifo"]))
    assert run("report", "r.json.fifo", "other.json.fifo", "--format", "csv") == 0
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len({line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]}) == 2


@pytest.mark.parametrize("layout", ["csv", "md", "html"])
def test_one_file_is_not_written_where_a_folder_is_named(layout, capsys):
    assert run("report", "r.json", "--format", layout, "-o", "new/") == 2
    assert capsys.readouterr().err.startswith("faceoff: new/ names a folder")
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["result.json", "page.html", "journal.jsonl"])
@pytest.mark.parametrize("what", ["folder", "fifo", "link to a folder", "link to a fifo"])
def test_what_no_run_could_write_is_told_before_it_begins(name, what):
    Path("out").mkdir()
    place = Path("elsewhere") if what.startswith("link") else Path("out") / name
    os.mkfifo(place) if what.endswith("fifo") else place.mkdir()
    if what.startswith("link"):
        (Path("out") / name).symlink_to(place.absolute())
    with pytest.raises(InputError, match=f"out/{name}: cannot be written") as caught:
        prepare_folder("out")
    assert "remove what is in its place" in str(caught.value)
    (Path("out") / name).unlink() if (Path("out") / name).is_symlink() or what == "fifo" else place.rmdir()
    assert prepare_folder("out") == Path("out")


def test_a_page_that_is_to_go_nowhere_may():
    Path("out").mkdir()
    Path("out/page.html").symlink_to("/dev/null")
    assert prepare_folder("out") == Path("out")


def test_processes_that_name_something_at_once_are_all_in_the_settings_file():
    Path("faceoff.toml").write_text("# mine\ntimeout_s = 300\n")
    code = "import sys; from faceoff.frameworks.environments import name_framework; from pathlib import Path\n"
    code += "for number in range(10): name_framework(f'{sys.argv[1]}{number}', Path('/opt'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness")}
    processes = [subprocess.Popen([sys.executable, "-c", code, name], env=environment) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    text = Path("faceoff.toml").read_text()
    assert text.startswith("# mine\n")
    assert len(tomllib.loads(text)["frameworks"]) == 30


def test_of_several_that_want_one_folder_at_once_one_gets_it():
    def attempt(_):
        try:
            make_folder(Path("deep/inside/new"), "remove it")
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as executor:
        said = list(executor.map(attempt, range(8)))
    assert sorted(said) == ["", *["deep/inside/new: is there already; remove it"] * 7]


@pytest.mark.parametrize(
    "arguments",
    [
        ["new", "model", "r.json/x", "--from", "pytorch", "--to", "jax"],
        ["new", "framework", "mine", "--dir", "r.json/x"],
        ["env", "create", "jax", "--dir", "r.json/x"],
    ],
)
def test_a_new_folder_below_a_file_is_refused_in_a_line(arguments, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error == "faceoff: r.json/x: cannot be made; got File exists; choose another folder\n"
