"""An environment of its own for a framework: made for real, named in faceoff.toml, and nothing left where it fails."""

import contextlib
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from faceoff.commands.cli import main
from faceoff.core.errors import HarnessError
from faceoff.frameworks import making as making_environments
from faceoff.frameworks.configuration import read_configuration
from faceoff.frameworks.making import create, requirements
from faceoff.frameworks.registry import FRAMEWORKS


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_a_framework_has_a_build_for_the_cpu_and_one_for_gpus():
    assert any(text.startswith("tensorflow-cpu==") for text in requirements(FRAMEWORKS["tensorflow"]))
    assert any(text.startswith("tensorflow[and-cuda]==") for text in requirements(FRAMEWORKS["tensorflow"], gpu=True))
    assert any(text.startswith("jax[cuda13]==") for text in requirements(FRAMEWORKS["jax"], gpu=True))


def test_what_is_made_is_named_and_keeps_what_else_the_file_says(monkeypatch):
    Path("faceoff.toml").write_text("# mine\ntimeout_s = 300\n\n[interpreters]\npytorch = '/opt/torch/bin/python'\n")
    # The smallest thing that pip can install, so that the test does not fetch a framework.
    monkeypatch.setattr(making_environments, "requirements", lambda *asked: ["packaging"])
    made = create("jax", quiet=True)
    written = Path("faceoff.toml").read_text()
    assert written.startswith("# mine\n")
    assert tomllib.loads(written)["interpreters"]["pytorch"] == "/opt/torch/bin/python"
    assert read_configuration().interpreters["jax"] == made.python == str(Path(".venv-jax/bin/python").absolute())
    # The interpreter is there, and JAX is not: that was what was installed.
    assert "no module named 'jax'" in made.reason


@pytest.mark.parametrize(
    ("name", "gpu", "said"),
    [
        ("pytorch", False, "PyTorch will take 1.2 to 5.5 GB, by the build that is found; 9 GB are free"),
        ("pytorch", True, "PyTorch will take about 5.5 GB; 9 GB are free"),
        ("jax", False, "JAX will take about 0.7 GB; 9 GB are free"),
        ("tensorflow", True, "TensorFlow/Keras will take about 4.4 GB; 9 GB are free"),
    ],
)
def test_what_it_takes_is_said_before_anything_is_downloaded(monkeypatch, capsys, name, gpu, said):
    monkeypatch.setattr(making_environments.shutil, "disk_usage", lambda folder: SimpleNamespace(free=9e9))
    monkeypatch.setattr(making_environments, "requirements", lambda *asked: [])
    heard = []
    monkeypatch.setattr(making_environments, "_install", lambda *asked: heard.append(capsys.readouterr().err) or "")
    with contextlib.suppress(HarnessError):
        create(name, gpu=gpu, quiet=True)
    assert said in heard[0]


@pytest.mark.parametrize(
    ("name", "gpu", "free"), [("pytorch", False, 1.1), ("pytorch", True, 5.4), ("jax", False, 0.6)]
)
def test_no_room_stops_before_the_download_and_leaves_nothing_behind(monkeypatch, name, gpu, free):
    monkeypatch.setattr(making_environments.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free * 1e9))
    monkeypatch.setattr(making_environments, "_install", lambda *asked: pytest.fail("something was downloaded"))
    with pytest.raises(HarnessError, match=rf"no room: .* got {free} GB free; .*--dir"):
        create(name, gpu=gpu, quiet=True)
    assert not Path(f".venv-{name}").exists()


def test_what_cannot_be_installed_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(making_environments, "requirements", lambda *asked: ["./no-such-package"])
    with pytest.raises(HarnessError, match="could not install"):
        create("jax", quiet=True)
    assert not Path(".venv-jax").exists()
    assert not Path("faceoff.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["theano"], "unknown framework"),
        (["jax", "--dir", "taken"], "is there already"),
        (["jax"], "faceoff.toml"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_made(arguments, said, capsys):
    Path("taken").mkdir()
    if arguments == ["jax"]:
        Path("faceoff.toml").write_text("[interpreters\n")
    with pytest.raises(SystemExit) as ended:
        main(["env", "create", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path(".venv-jax").exists()


def test_a_file_that_cannot_name_it_is_found_out_before_anything_is_installed(monkeypatch):
    monkeypatch.setattr(making_environments, "_run", lambda *arguments: pytest.fail("something was installed"))
    monkeypatch.setattr(making_environments, "CONFIG_FILE", "file/faceoff.toml")
    Path("file").write_text("")
    with pytest.raises(HarnessError, match=r"faceoff\.toml: cannot be written"):
        create("jax", quiet=True)
    assert not Path(".venv-jax").exists()
