"""What a mode needs beside Python packages is found lacking beforehand, told with the way to it, and is no crash."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from faceoff.commands.inventory import take_inventory
from faceoff.core.spec import Contender
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool import needs
from faceoff.pool.needs import find_compiler_lack, find_lack, may_execute
from faceoff.worker.failures import describe_error
from tests.conftest import new_pool

COMPILE = Contender("pytorch", "compile")


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    find_compiler_lack.cache_clear()
    monkeypatch.delenv("CXX", raising=False)
    yield
    find_compiler_lack.cache_clear()


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A shell that finds the interpreter, and no compiler."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "apt-get"):
        (tmp_path / "bin" / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_a_mode_that_compiles_is_missing_without_a_compiler_and_says_how_to_get_one(no_compiler, tmp_path):
    if not find_installation(FRAMEWORKS["pytorch"], Configuration()).installed:
        pytest.skip("needs PyTorch")
    with_it = new_pool([COMPILE], tmp_path / "logs")
    with_it.close()
    error = with_it.failures[COMPILE]
    assert error.outcome == "missing"
    assert "no C++ compiler" in error.what
    assert "apt-get install g++ python3-dev" in (error.next_step or "")
    assert "pytorch:compile" in take_inventory()["frameworks"]["pytorch"]["lacks"]


def test_no_other_mode_needs_one(no_compiler):
    for framework in FRAMEWORKS.values():
        for mode in framework.modes_on("cpu"):
            contender = Contender(framework.name, mode)
            assert (find_lack(contender, "cpu", sys.executable, {}) is not None) == (contender == COMPILE)


def test_here_nothing_is_lacking_that_the_tests_use():
    assert find_compiler_lack("C++", sys.executable) is None


def test_a_compiler_without_the_headers_is_found_out(monkeypatch, tmp_path):
    monkeypatch.setattr(needs, "_headers", lambda python: [f"-I{tmp_path}"])
    monkeypatch.setenv("CPATH", "")
    lack = find_compiler_lack("C++", sys.executable)
    assert lack is not None
    assert "Python.h" in lack.reason
    assert str(tmp_path) not in lack.reason


def test_a_compiler_that_is_named_and_cannot_be_run_is_told_by_its_name(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler --fast")
    lack = find_compiler_lack("C++", sys.executable)
    assert lack is not None
    assert "no-such-compiler" in lack.reason
    assert "CXX" in lack.next_step


@pytest.fixture
def no_execution(tmp_path):
    """A folder on a file system that is mounted noexec."""
    place = tmp_path / "noexec"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,noexec", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_folder_that_may_not_execute_is_told_beforehand(monkeypatch, no_execution):
    assert may_execute(no_execution.parent)
    assert not may_execute(no_execution)
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_execution))
    lack = find_lack(COMPILE, "cpu", sys.executable, {})
    assert lack is not None
    assert str(no_execution) in lack.reason
    assert "XDG_CACHE_HOME" in lack.next_step
    # And the way out is one.
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_execution.parent))
    assert find_lack(COMPILE, "cpu", sys.executable, {}) is None


def test_a_home_that_may_not_execute_is_told_too(monkeypatch, no_execution):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(no_execution))
    lack = find_lack(COMPILE, "cpu", sys.executable, {})
    assert lack is not None
    assert str(no_execution / ".cache" / "faceoff") in lack.reason
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_execution.parent))
    assert find_lack(COMPILE, "cpu", sys.executable, {}) is None


@pytest.mark.parametrize("home", ["/dev/null/home", "a home with spaces"])
def test_temporary_files_that_may_not_execute_are_told_where_there_is_no_other_place(monkeypatch, no_execution, home):
    # Code is compiled into no path with a space, and where there is no home.
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_execution.parent / home))
    monkeypatch.setenv("TMPDIR", str(no_execution))
    monkeypatch.setattr(tempfile, "tempdir", None)
    lack = find_lack(COMPILE, "cpu", sys.executable, {})
    assert lack is not None
    assert str(no_execution) in lack.reason
    assert "TMPDIR" in lack.next_step
    monkeypatch.setenv("TMPDIR", str(no_execution.parent))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert find_lack(COMPILE, "cpu", sys.executable, {}) is None


def test_temporary_files_in_a_path_with_a_space_are_told_beforehand(monkeypatch, tmp_path):
    (tmp_path / "two words").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "two words"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    lack = find_lack(COMPILE, "cpu", sys.executable, {})
    assert lack is not None
    assert "a space in the path" in lack.reason
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert lack.next_step == "name another folder by TMPDIR"
    assert find_lack(COMPILE, "cpu", sys.executable, {}) is None


@pytest.mark.parametrize("folder", ["my project/.venv", "tab\tbed/.venv"])
def test_so_is_an_environment_in_such_a_path(tmp_path, folder):
    python = tmp_path / folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    lack = find_lack(COMPILE, "cpu", str(python), {})
    assert lack is not None
    assert str(tmp_path / folder) in lack.reason
    # Nobody else minds.
    assert find_lack(Contender("pytorch", "eager"), "cpu", str(python), {}) is None


@pytest.mark.parametrize(
    "text",
    [
        "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')",
        "/home/x/ab.so: failed to map segment from shared object",
        "Failed to find C compiler. Please specify via CC environment variable",
    ],
)
def test_what_is_lacking_later_is_missing_too(text):
    assert describe_error(RuntimeError(text), FRAMEWORKS["pytorch"].errors)["outcome"] == "missing"


def test_doctor_says_it_and_one_line_where_there_is_no_gpu():
    # One framework is enough, and starts sooner.
    bare = {f"FACEOFF_PYTHON_{name}": "/no/python" for name in ("TENSORFLOW", "JAX")}
    environment = {**os.environ, **bare, "CXX": "no-such-compiler", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-m", "faceoff", "doctor"], capture_output=True, text=True, env=environment, cwd=root
    )
    assert run.returncode == 3
    if "no GPU" in run.stdout:
        assert "`start` failed" not in run.stdout
    if find_installation(FRAMEWORKS["pytorch"], Configuration()).installed:
        assert "pytorch:compile missing: no C++ compiler: there is no `no-such-compiler`; " in run.stdout
