"""The digest of a framework's code: another one where anything that it runs has changed, and only then."""

import pytest

from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.run import sources
from faceoff.run.sources import digest_of_folder


@pytest.fixture
def folder(tmp_path, monkeypatch, lightest):
    """The folder of a framework, and its name."""
    folder = tmp_path / "framework"
    (folder / "parts").mkdir(parents=True)
    (folder / "runtime.py").write_text("a = 1\n")
    (folder / "parts" / "kernel.cl").write_text("b\n")
    framework = FRAMEWORKS[lightest.framework].model_copy(update={"folder": folder})
    monkeypatch.setattr(sources, "FRAMEWORKS", {lightest.framework: framework})
    return folder, lightest.framework


@pytest.mark.parametrize("name", ["runtime.py", "parts/kernel.cl", "parts/more.py"])
def test_code_that_was_changed_or_added_makes_another_digest(folder, name):
    path, framework = folder
    before = digest_of_folder(framework)
    (path / name).write_text("changed\n")
    assert digest_of_folder(framework) != before


@pytest.mark.parametrize("name", ["README.md", "__pycache__/runtime.cpython-311.pyc"])
def test_what_is_no_code_changes_nothing(folder, name):
    path, framework = folder
    before = digest_of_folder(framework)
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_text("x")
    assert digest_of_folder(framework) == before


def test_a_copy_elsewhere_has_the_same_digest(folder, tmp_path, monkeypatch):
    path, framework = folder
    before = digest_of_folder(framework)
    path.rename(tmp_path / "elsewhere")
    elsewhere = sources.FRAMEWORKS[framework].model_copy(update={"folder": tmp_path / "elsewhere"})
    monkeypatch.setattr(sources, "FRAMEWORKS", {framework: elsewhere})
    assert digest_of_folder(framework) == before
