"""Texts of the shell that are no UTF-8 end no run: refused before it, or kept so that the result loads again."""

import json
import os
import zlib
from pathlib import Path

import pytest

from faceoff.commands.cli import main
from faceoff.core.errors import InputError, ResultFileError
from faceoff.differences.changes import diff
from faceoff.results.file import load, save, to_plain_json
from faceoff.run.journal import read
from faceoff.run.options import make_options
from faceoff.system.texts import clean, cleaned
from tests.unit.results.samples import main_job

ODD = os.fsdecode(b"c\xff")
HALF = "\ud800x"


def test_a_text_shows_the_bytes_that_it_cannot_hold():
    assert clean("Grüße") == "Grüße"
    assert clean(ODD + HALF) == r"c\xff\ud800x"


def test_every_text_of_a_record_is_cleaned_and_no_figure_is_touched():
    result = main_job()
    rounds_s = result.cases[0].speed.rounds_s
    result.cases[0].reason, result.cases[0].ledger = ODD, {ODD: [ODD, {"a": (HALF, 0.5)}]}
    cleaned(result)
    assert result.cases[0].reason == r"c\xff"
    assert result.cases[0].ledger == {r"c\xff": [r"c\xff", {"a": (r"\ud800x", 0.5)}]}
    assert result.cases[0].speed.rounds_s is rounds_s


def odd_result():
    result = main_job()
    result.command = f"faceoff agree --data {ODD}"
    result.machine["operating_system"] = ODD
    result.contenders[0].settings = {"cache": {"folder": ODD}}
    result.contenders[0].next_step = f"see its log: {ODD}"
    result.agreements[0].log_tail = HALF
    result.cases[0].reason = ODD
    return result


def test_a_result_with_odd_texts_is_written_and_loads_again(tmp_path):
    save(odd_result(), tmp_path / "r.json")
    loaded = load(tmp_path / "r.json")
    assert loaded.command.endswith(r"c\xff")
    assert loaded.contenders[0].settings == {"cache": {"folder": r"c\xff"}}
    assert r"c\\xff" in to_plain_json(odd_result())


@pytest.mark.parametrize("option", ["--data", "--out", "--resume"])
def test_a_folder_that_no_result_could_name_is_refused_before_anything_runs(option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(b"c\xff")
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--preset", "small", option, ODD])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "UTF-8" in error or "journal" in error
    assert error.count("\n") == 1


def test_the_interface_refuses_it_too(tmp_path):
    with pytest.raises(InputError, match="UTF-8"):
        make_options("bench", preset="small", out=tmp_path / ODD)
    with pytest.raises(InputError, match="UTF-8"):
        make_options("bench", preset="small", out=tmp_path / "out", data=tmp_path / ODD)


def test_a_result_in_an_odd_place_is_reported_and_compared(tmp_path, capsys):
    path = tmp_path / ODD / "r.json"
    save(main_job(), path)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(path), "--format", "csv"])
    assert ended.value.code == 0
    assert r"c\xff" in capsys.readouterr().out
    assert r"c\xff" in diff(path, path).model_dump_json().replace("\\\\", "\\")


def test_a_journal_with_half_a_letter_is_damaged(tmp_path):
    text = json.dumps({"kind": "run", "command_line": HALF})
    line = f'{{"crc32":"{zlib.crc32(text.encode()):08x}","entry":{text}}}\n'
    (tmp_path / "journal.jsonl").write_text(line * 2)
    with pytest.raises(ResultFileError, match="line 1: damaged"):
        read(tmp_path / "journal.jsonl")


def test_what_pytest_benchmark_says_of_the_working_folder_is_cleaned_too(tmp_path, monkeypatch):
    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    save(main_job(), tmp_path / "r.json")
    assert load(tmp_path / "r.json").records
    assert "udcff" not in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["agree", "--preset", "small", "--models", f"./{ODD}"],
        ["agree", "--preset", "small", "--models", "./link"],
        ["bench", "--preset", "small", "--models", f"dense,{ODD}/port.toml"],
        ["compare", "--preset", "small", "--data", "./link"],
        ["new", "model", f"{ODD}/mine", "--from", "pytorch", "--to", "jax"],
        ["new", "framework", "mine", "--dir", f"{ODD}/mine"],
        ["env", "create", "jax", "--dir", f"{ODD}/env"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments)),
)
def test_what_would_be_written_down_or_given_to_a_framework_is_refused_too(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(b"c\xff")
    (tmp_path / "link").symlink_to(ODD)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "not UTF-8" in error
    assert r"c\xff" in error
    # A link would be followed, so none is advised.
    assert "link;" not in error.replace("./link", "")
    assert "by a link" not in error
    assert list((tmp_path / ODD).iterdir()) == []


def test_a_run_reaches_an_odd_folder_by_a_link_as_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir(b"c\xff")
    with pytest.raises(InputError, match="reach it by a link"):
        make_options("bench", preset="small", out=ODD)
    (tmp_path / "link").symlink_to(ODD)
    assert make_options("bench", preset="small", out="link").out == Path("link")
    assert (tmp_path / ODD / "logs").is_dir()


def test_in_an_odd_working_folder_another_is_named_as_advised(tmp_path, monkeypatch):
    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    with pytest.raises(InputError, match="name another by --out"):
        make_options("bench", preset="small")
    assert make_options("bench", preset="small", out=tmp_path / "out").out == tmp_path / "out"
