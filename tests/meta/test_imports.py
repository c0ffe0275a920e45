"""Who may import whom, read from the source; and what a running worker has really loaded."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceoff.frameworks.registry import FRAMEWORKS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "harness" / "faceoff"
MODULES = {"pytorch": {"torch"}, "tensorflow": {"tensorflow", "keras"}, "jax": {"jax", "jaxlib", "flax", "optax"}}
# Kernels that are written out, which have dense models alone.
KERNELS = {"opencl": {"pyopencl"}, "cuda": {"cupy"}, "triton": {"triton", "torch"}}
ALL_FRAMEWORKS = set().union(*MODULES.values(), *KERNELS.values())
STANDARD = set(sys.stdlib_module_names)
# From the top: a room imports only from rooms below it.
ROOMS = (
    "commands", "report", "defaults", "conformance", "run", "differences", "speed", "agreement", "ports", "pool",
    "frameworks", "machine", "workloads", "results", "system", "reference", "worker", "core",
)  # fmt: skip
# The command line is one more user of the Python interface.
BESIDE = {"commands": {"api"}}


def imported(path: Path) -> Iterator[str]:
    """Every module name that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # The files of a framework's folder, and nothing else, know each other by where they lie.
            assert node.level <= ("impls" in path.parts), f"{path}: relative import"
            yield f"{'.' * node.level}{node.module or ''}"


def forbidden(path: Path, allowed: set[str]) -> list[str]:
    """Imports of `path` that are neither in the standard library nor start with an allowed name."""
    return [
        name
        for name in imported(path)
        if not name.startswith(".")
        and name.split(".")[0] not in STANDARD
        and not any(name == a or name.startswith(a + ".") for a in allowed)
    ]


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def test_no_file_of_the_harness_names_a_framework_or_one_of_its_packages():
    names = {name for framework in FRAMEWORKS.values() for name in (framework.name, framework.module)}
    names |= ALL_FRAMEWORKS | {"xla", "inductor", "triton"}
    # Also what cards are made for and drivers name, whoever runs on them.
    names -= {"cuda"}
    word = re.compile(rf"(?<![a-z])({'|'.join(sorted(names))})(?![a-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.*"))
        if path.suffix not in (".md", ".pyc")
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if word.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", files("harness/faceoff/core"), ids=lambda p: p.name)
def test_core_imports_only_the_standard_library_and_numpy(path):
    # The backport of what came with Python 3.8.
    assert forbidden(path, {"numpy", "faceoff.core", "importlib_metadata"}) == []


@pytest.mark.parametrize("path", files("harness/faceoff/worker"), ids=lambda p: p.name)
def test_a_worker_imports_only_core(path):
    assert forbidden(path, {"numpy", "faceoff.core", "faceoff.worker"}) == []


@pytest.mark.parametrize("framework", [*MODULES, *KERNELS])
def test_an_implementation_imports_core_its_framework_and_itself(framework):
    allowed = {"numpy", "faceoff.core"} | {**MODULES, **KERNELS}[framework]
    for path in files(f"impls/{framework}"):
        assert forbidden(path, allowed) == [], path


def rooms_of(path: Path) -> set[str]:
    """The rooms, or modules beside them, that a file imports from."""
    names = [name.split(".") for name in imported(path)]
    return {parts[1] for parts in names if parts[0] == "faceoff" and len(parts) > 1}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_rooms_below_it(room):
    allowed = {room, *ROOMS[ROOMS.index(room) + 1 :], *BESIDE.get(room, set())}
    for path in files(f"harness/faceoff/{room}"):
        assert rooms_of(path) <= allowed, path


def test_every_module_is_in_a_room_and_is_not_called_like_it():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == set(ROOMS)
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "api", "pytest_plugin"}
    for room in ROOMS:
        assert not (PACKAGE / room / f"{room}.py").exists()
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))


def test_unit_tests_stand_in_the_rooms_that_they_test():
    beside = {"conftest", "__init__", "test_pytest_plugin", "test_room"}
    assert {path.stem for path in (ROOT / "tests" / "unit").glob("*.py")} == beside
    folders = {path.name for path in (ROOT / "tests" / "unit").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= {*ROOMS, "calibration", "benchmarks"}


def test_the_parent_imports_no_framework():
    for path in files("harness/faceoff"):
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & (ALL_FRAMEWORKS | {"impls"}), path


def test_the_rule_finds_a_framework_that_is_imported_inside_a_function(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    import torch.nn\n")
    assert forbidden(path, {"numpy"}) == ["torch.nn"]


def test_every_implementation_has_the_same_files():
    names = {"__init__.py", "runtime.py", "optimiser.py", "dense.py", "residual.py", "rnn.py", "lstm.py", "defaults.py"}
    for framework in MODULES:
        assert names <= {path.name for path in (ROOT / "impls" / framework).glob("*.py")}
    names = {"__init__.py", "runtime.py", "dense.py", "kernels.py"}
    for framework in KERNELS:
        assert names <= {path.name for path in (ROOT / "impls" / framework).glob("*.py")}
    assert {*MODULES, *KERNELS} == {path.parent.name for path in (ROOT / "impls").glob("*/framework.toml")}


def test_what_frameworks_share_is_no_python():
    shared = {folder for framework in FRAMEWORKS.values() for folder in framework.shared_folders}
    assert shared
    for folder in shared:
        assert not list(folder.rglob("*.py"))


def test_no_file_grows_past_400_lines():
    for folder in ("harness", "impls", "tests"):
        for path in files(folder):
            assert len(path.read_text().splitlines()) <= 400, path


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["compare", "--models", "none"]], ids=" ".join)
def test_the_parent_process_loads_no_framework(arguments):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "faceoff", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    loaded = {
        line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines() if "import time:" in line
    }
    assert "click" in loaded
    assert not loaded & ALL_FRAMEWORKS


def test_core_and_worker_are_python_3_6_syntax():
    paths = [*files("harness/faceoff/core"), *files("harness/faceoff/worker"), PACKAGE / "__init__.py"]
    assert len(paths) > 10
    for path in paths:
        # Newer parsers know no older grammar than 3.7's; this import came with it.
        assert "__future__" not in set(imported(path)), path
        ast.parse(path.read_text(), feature_version=(3, 7))
