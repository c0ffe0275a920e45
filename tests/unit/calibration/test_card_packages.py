"""What another machine lacks is brought along: found, weighed, and unpacked there where it is not there already."""

import importlib.metadata
import json
import subprocess
import sys
import zipfile

import pytest

from tests.calibration.on_a_gpu.__main__ import main
from tests.calibration.on_a_gpu.carried import NotPreparedError, make_importable
from tests.calibration.on_a_gpu.preparing import closure, framework_packages, requirements, weigh

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROJECT = {
    "name": "faceoff",
    "dependencies": ["numpy>=2.0"],
    "optional-dependencies": {"one": ["torch==2", "small==1.5"], "all": ["faceoff[one]"], "dev": ["ruff"]},
}


def wheel(folder, name, version, needs=(), files=()):
    folder.mkdir(parents=True, exist_ok=True)
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n")
        for path, text in files:
            archive.writestr(path, text)


@pytest.fixture
def prepared(tmp_path):
    """A folder as `prepare` fills it, with the real wheel of packaging and small ones."""
    folder = tmp_path / "card"
    packaging = importlib.metadata.distribution("packaging")
    files = [(str(path), path.locate().read_text()) for path in packaging.files if path.suffix == ".py"]
    wheels = folder / "wheels"
    wheel(wheels, "packaging", packaging.version, files=files)
    wheel(wheels, "a-lpha", "1.0", ["b.eta>=2; python_version >= '3.8'", "gamma; extra == 'more'", "numpy>=1"],
          [("alpha.py", "import beta\nVALUE = beta.VALUE")])  # fmt: skip
    wheel(
        wheels,
        "b-eta",
        "2.5",
        files=[("b_eta-2.5.data/purelib/beta.py", "VALUE = 7"), ("b_eta-2.5.data/scripts/x", "")],
    )
    wheel(wheels, "numpy", "99.0", files=[("numpy/__init__.py", "raise ImportError")])
    told = {"python": HERE, "project": {"name": "pro-ject", "version": "3.1"}}
    (folder / "prepared.json").write_text(json.dumps({**told, "requirements": ["A_lpha>=1", "numpy>=2", "absent>=1"]}))
    return folder


def test_what_the_machine_lacks_is_unpacked_with_all_that_it_needs_and_nothing_else(prepared, tmp_path):
    code = (
        "import pathlib, sys; from tests.calibration.on_a_gpu.carried import make_importable;"
        "print(make_importable(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", code, str(prepared), str(tmp_path / "site")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(['a-lpha 1.0', 'b-eta 2.5'], ['absent>=1'])"
    ask = "import alpha, numpy, importlib.metadata as m; print(alpha.VALUE, m.version('pro-ject'), numpy.__version__)"
    command = [sys.executable, "-c", ask]
    answer = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "site")}, stdout=subprocess.PIPE, text=True, check=True
    )
    assert answer.stdout.split() == ["7", "3.1", importlib.metadata.version("numpy")]
    assert not list((tmp_path / "site").glob("**/x"))


def test_a_folder_for_another_python_or_not_whole_is_refused(prepared, tmp_path):
    (prepared / "wheels" / "a_lpha-1.0-py3-none-any.whl").write_bytes(b"cut off")
    with pytest.raises(NotPreparedError, match=r"a_lpha.*damaged"):
        make_importable(prepared, tmp_path / "site")
    told = json.loads((prepared / "prepared.json").read_text())
    (prepared / "prepared.json").write_text(json.dumps({**told, "python": "3.5"}))
    with pytest.raises(NotPreparedError, match=rf"for Python 3\.5, and this is {HERE}.*prepare --python {HERE}"):
        make_importable(prepared, tmp_path / "site")
    with pytest.raises(NotPreparedError, match="not prepared"):
        make_importable(tmp_path / "nowhere", tmp_path / "site")


def test_a_run_from_a_folder_that_is_not_prepared_is_bad_usage(tmp_path, capsys):
    assert main(["run", "--from", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "make it by `prepare" in capsys.readouterr().err


def test_packages_are_those_that_the_project_names():
    assert requirements(PROJECT, ["Small"]) == ["numpy>=2.0", "small==1.5"]
    with pytest.raises(NotPreparedError, match="--also: got ruff, expected some of small, torch"):
        requirements(PROJECT, ["ruff"])
    assert {"torch", "jax", "jaxlib", "tensorflow", "triton"} <= framework_packages()


def test_what_only_frameworks_need_is_left_out():
    resolved = {
        "a": {"version": "1", "requires_dist": ["b>=1", "torch; python_version > '3'", "c; extra == 'x'"]},
        "b": {"version": "2"},
        "c": {"version": "3"},
        "torch": {"version": "4", "requires_dist": ["d"]},
        "d": {"version": "5"},
    }
    assert closure(["a"], resolved, {"torch"}) == ["a==1", "b==2"]
    assert closure(["a[x]"], resolved, {"b"}) == ["a==1", "c==3", "d==5", "torch==4"]


def test_what_is_too_large_is_told_with_the_largest(tmp_path):
    (tmp_path / "card").mkdir()
    for name, size in (("large", 3 * 2**20), ("small", 2**19)):
        (tmp_path / "card" / name).write_bytes(bytes(size))
    (tmp_path / "own").write_bytes(bytes(2**20))
    said = weigh(tmp_path / "card", [tmp_path / "own"], 5 * 2**20)
    assert said.endswith("card 3.5 MiB, the project's files 1.0 MiB, limit 5 MiB")
    with pytest.raises(NotPreparedError, match=r"too large; the largest are large \(3\.0 MiB\), small .*--there"):
        weigh(tmp_path / "card", [tmp_path / "own"], 4 * 2**20)
