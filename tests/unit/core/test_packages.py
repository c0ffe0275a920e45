"""What is installed, and how much room it takes, from metadata of distributions that are made up here."""

import json
import subprocess
import sys

import pytest

from faceoff.core import packages


def make_distribution(folder, name, size, requires=(), version="1.0"):
    """A distribution of one file of `size` bytes, whose metadata are not counted."""
    (folder / f"{name}.py").write_bytes(b"#" * size)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]))
    (info / "RECORD").write_text(f"{name}.py,,{size}\nnever_written.pyc,,\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Three distributions, one of which two others require."""
    make_distribution(tmp_path, "shared_part", 100)
    make_distribution(tmp_path, "small", 10, ["Shared.Part>=1", "absent; python_version < '3'"])
    make_distribution(tmp_path, "large", 1000, ["shared-part", "small ; extra == 'more'"], version="2.5")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_is_required_counts_once_and_what_only_an_extra_requires_not_at_all(site):
    assert packages.disk_bytes(["small"]) == 110
    assert packages.disk_bytes(["large"]) == 1100
    assert packages.disk_bytes(["small", "large"]) == 1110
    assert packages.disk_bytes(["absent"]) == 0


def test_what_an_extra_for_gpus_requires_counts_where_it_is_installed(site):
    make_distribution(site, "plugin", 10_000, ["kernels[all]; python_version > '3' and extra == \"with-cuda\""])
    make_distribution(site, "kernels", 100_000)
    make_distribution(site, "framework", 1, ["plugin[with-cuda]==1 ; extra == 'cuda13'", "absent; extra == 'cuda12'"])
    assert packages.disk_bytes(["framework"]) == 110_001


def test_versions_are_those_of_what_is_installed(site):
    assert packages.find_versions(["large", "absent"]) == {"large": "2.5"}


def test_another_interpreter_answers_the_same(site, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))

    def ask(what):
        command = [sys.executable, packages.__file__, what, "large", "large"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert ask("disk_bytes") == 1100
    assert ask("look_up") == {"found": True, "versions": {"large": "2.5"}}


def test_a_folder_of_that_name_is_no_framework(site):
    (site / "hollow").mkdir()
    assert packages.look_up("hollow", []) == {"found": False, "versions": {}}
    assert packages.look_up("large", [])["found"]
