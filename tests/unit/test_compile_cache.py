"""A library that a killed compiler left unfinished would be loaded for ever."""

import subprocess
import sys

from harness.compile_cache import remove_unfinished


def library(folder, name, at_work):
    (folder / "ab").mkdir(exist_ok=True)
    found = folder / "ab" / f"{name}.main.so"
    found.write_bytes(b"")
    place = folder / "ab" / f"{name}.main_CxxBuild"
    if at_work:
        place.mkdir()
        (place / "part.o").write_bytes(b"")
    return found, place


def test_what_was_not_finished_goes_and_the_rest_stays(tmp_path):
    cut_off, place = library(tmp_path, "first", at_work=True)
    whole, _ = library(tmp_path, "second", at_work=False)
    assert remove_unfinished(tmp_path) == [cut_off]
    assert not cut_off.exists()
    assert not place.exists()
    assert whole.exists()
    assert remove_unfinished(tmp_path) == []


def test_what_another_process_is_at_work_on_stays(tmp_path):
    in_work, place = library(tmp_path, "first", at_work=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=place, stdin=subprocess.PIPE) as compiler:
        assert remove_unfinished(tmp_path) == []
        assert in_work.exists()
        compiler.kill()
    assert remove_unfinished(tmp_path) == [in_work]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert remove_unfinished(tmp_path / "none") == []
