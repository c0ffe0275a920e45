"""What an installation will take is said before the download, and no room is a line."""

import json
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def room(monkeypatch):
    spec = spec_from_file_location("room", ROOT / ".ci" / "room.py")
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    monkeypatch.setattr(found.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5 * 10**9))
    return found


def planned(folder, *names):
    path = folder / "planned.json"
    path.write_text(json.dumps({"install": [{"metadata": {"name": name}} for name in names]}))
    return path


def test_the_build_for_the_cpu_has_room_where_that_for_cuda_has_none(room, tmp_path, capsys):
    assert room.main(tmp_path, planned(tmp_path, "torch", "sympy")) == 0
    assert "about 3 GB" in capsys.readouterr().out
    assert room.main(tmp_path, planned(tmp_path, "torch", "nvidia-cublas")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "7.5 GB" in error
    assert "TORCH_INDEX" in error
    assert "5.0 GB are free" in error


@pytest.mark.parametrize("text", ["", "[]", '{"install": [{}]}', '{"install": 3}'])
def test_where_pip_does_not_say_nothing_is_stopped_for_it(room, tmp_path, text):
    (tmp_path / "planned.json").write_text(text)
    assert room.main(tmp_path, tmp_path / "planned.json") == 0
    assert room.main(tmp_path, tmp_path / "none.json") == 0


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy that holds nothing to install, with an interpreter of one's own."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")

    def run(script, *arguments):
        (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "python").chmod(0o755)
        command = ["make", "--silent", "install", f"PYTHON={tmp_path}/python", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_an_interpreter_without_ensurepip_is_told_before_anything_is_made(make, tmp_path):
    done = make("exit 1")
    assert done.returncode != 0
    assert "no ensurepip" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_no_room_stops_before_the_download(make, tmp_path):
    # The first question is for ensurepip, then the environment is made, then it is asked for room.
    script = f'case "$1" in -m) mkdir -p {tmp_path}/.venv/bin; cp "$0" {tmp_path}/.venv/bin/python;;'
    script += ' .ci/room.py) echo "no room" >&2; exit 2;; esac'
    script += f'; echo "$@" >> {tmp_path}/calls'
    done = make(script)
    assert done.returncode != 0
    assert "no room" in done.stderr
    assert "--editable" not in (tmp_path / "calls").read_text()
    (tmp_path / "calls").unlink()
    make(script.replace('echo "no room" >&2; exit 2', "true"), "TORCH_INDEX=file:///cpu")
    assert "--extra-index-url file:///cpu --editable .[all]" in (tmp_path / "calls").read_text()
