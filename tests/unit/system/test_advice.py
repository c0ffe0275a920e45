"""What is advised helps in the state that asks for it; the commands are run where that can be done here."""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from faceoff.commands.cli import main
from faceoff.conformance.drafting import draft
from faceoff.core.errors import HarnessError
from faceoff.core.spec import Contender
from faceoff.frameworks import making as making_environments
from faceoff.frameworks import registry
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.making import create
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.system.advice import install_command, to_go_on
from tests.conftest import new_pool
from tests.unit.results.test_impossible_values import line

ROOT = Path(__file__).resolve().parents[3]


def said_by(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_folder_in_the_journals_place_is_not_met_by_making_room(tmp_path, capsys):
    (tmp_path / "journal.jsonl").mkdir()
    arguments = ["bench", "--preset", "small", "--contenders", "jax", "--out", str(tmp_path)]
    error = said_by(arguments, capsys)
    assert "room" not in error
    assert "--resume" not in error
    assert "remove what is in its place" in error


def test_resuming_in_a_folder_that_cannot_be_written_offers_no_other_out(tmp_path, capsys, monkeypatch):
    identity = {"command": "bench", "asked": {}, "workloads": [], "machine": {}, "versions": {}, "code": ""}
    begin = {"kind": "run", "schema_version": 2, "created": "", "command_line": "", "identity": identity}
    (tmp_path / "journal.jsonl").write_text(line(begin))
    # As a user without rights: root may write everywhere, but makes no folder under a file.
    (tmp_path / "logs").write_text("")
    error = said_by(["bench", "--resume", str(tmp_path)], capsys)
    assert "--out" not in error
    assert "remove what is in its place, then" in error
    (tmp_path / "logs").unlink()
    # Then the advice leads on: it is the journal that is looked at.
    assert "logs" not in said_by(["bench", "--resume", str(tmp_path)], capsys)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "make room"), (errno.EROFS, "--resume the copy"), (errno.EIO, "once it can be written")],
)
def test_each_reason_has_its_own_way_on(number, words):
    assert words in to_go_on(number, "faceoff bench --resume D")
    assert "what was finished is kept" in to_go_on(number, "faceoff bench --resume D")


def test_the_command_that_installs_a_framework_is_for_its_interpreter(tmp_path, monkeypatch):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # An interpreter that has nothing installed.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("FACEOFF_PYTHON_JAX", str(python))
    monkeypatch.chdir(tmp_path)
    missing = find_installation(FRAMEWORKS["jax"], Configuration())
    assert missing.next_step == f"install it: {python} -m pip install '{ROOT}[jax]'"
    monkeypatch.chdir(ROOT)
    missing = find_installation(FRAMEWORKS["jax"], Configuration())
    assert missing.next_step == f"install it: {python} -m pip install '.[jax]'"


def test_an_environment_of_uvs_without_pip_is_filled_by_uv(tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    packages = tmp_path / "env" / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").write_text("home = /usr/bin\nimplementation = CPython\nuv = 0.5.1\n")
    assert install_command(str(python), "numpy") == f"uv pip install --python {python} numpy"
    (packages / "pip").mkdir()
    assert install_command(str(python), "numpy") == f"{python} -m pip install numpy"
    shutil.rmtree(tmp_path / "env")
    assert install_command("/a path/python", "numpy") == "'/a path/python' -m pip install numpy"


def test_the_interpreter_that_is_named_has_a_pip_that_runs():
    command = shlex.split(install_command(sys.executable, "numpy"))
    command.insert(command.index("install") + 1, "--dry-run")
    assert subprocess.run([*command, "--no-index"], capture_output=True).returncode == 0


def test_an_environment_without_ensurepip_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    python = tmp_path / "python"
    # As a distribution's venv ends that keeps ensurepip in a package of its own.
    python.write_text("#!/bin/sh\necho 'was not created successfully because ensurepip is not available'\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(making_environments.sys, "executable", str(python))
    with pytest.raises(HarnessError) as caught:
        create("jax", quiet=True)
    assert "pip's message" not in str(caught.value)
    assert "ensurepip is not available" in str(caught.value)
    assert "-venv" in str(caught.value)
    assert not os.path.exists(".venv-jax")


# Starts what goes on by itself, writes a temporary file, and is then interrupted by whoever sits before it.
GOES_ON = """#!/bin/sh
sleep 60 &
echo $! > {folder}/left
touch "$TMPDIR/half-made"
kill -INT $PPID
wait
"""


def test_an_environment_whose_making_is_interrupted_leaves_no_process_and_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    python = tmp_path / "python"
    python.write_text(GOES_ON.format(folder=tmp_path))
    python.chmod(0o755)
    monkeypatch.setattr(making_environments.sys, "executable", str(python))
    monkeypatch.setattr(making_environments.shutil, "which", lambda name: None if name == "uv" else name)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            create("jax", quiet=True)
    finally:
        signal.signal(signal.SIGINT, before)
    left = int((tmp_path / "left").read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / ".venv-jax").exists()


def test_what_a_framework_from_elsewhere_needs_is_named_by_its_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = draft("mine")
    manifest = (folder / "framework.toml").read_text().replace('module = "numpy"', 'module = "not_there"')
    (folder / "framework.toml").write_text(manifest.replace('["numpy"]', '["not-there", "numpy"]'))
    FRAMEWORKS.forget()
    try:
        missing = find_installation(FRAMEWORKS["mine"], Configuration())
    finally:
        monkeypatch.chdir(ROOT)
        FRAMEWORKS.forget()
    assert missing.next_step == f"install it: {sys.executable} -m pip install not-there numpy"


def test_a_framework_that_is_there_and_lacks_a_package_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    folder = draft("mine")
    source = (folder / "__init__.py").read_text()
    (folder / "__init__.py").write_text(f"{source}\nimport not_there\n")
    FRAMEWORKS.forget()
    step = f"install it: {sys.executable} -m pip install numpy"
    try:
        with new_pool([Contender("mine", "eager")], tmp_path / "logs") as pool:
            error = pool.failures[Contender("mine", "eager")]
        monkeypatch.setattr(registry, "OURS", tmp_path / "none")
        FRAMEWORKS.forget()
        with pytest.raises(SystemExit) as ended:
            main(["doctor"])
    finally:
        monkeypatch.undo()
        FRAMEWORKS.forget()
    assert (error.outcome, error.next_step) == ("missing", step)
    assert "No module named 'not_there'" in error.what
    assert ended.value.code == 3
    # In one line, however narrow the terminal is: it is there to be copied.
    assert f"mine: {step}\n" in capsys.readouterr().out
