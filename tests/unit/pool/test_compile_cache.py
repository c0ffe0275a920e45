"""What a killed compiler or a full disk leaves would be loaded for ever, or compiled anew by every process."""

import _ctypes
import random
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from faceoff.frameworks.manifest import CompiledFiles
from faceoff.pool.compile_cache import remove_damaged

WHOLE = Path(_ctypes.__file__)
PACKED = zlib.compress(random.Random(0).randbytes(5000))
# A frame of one raw block with a checksum, as RFC 8878 describes it.
ZSTANDARD = b"\x28\xb5\x2f\xfd\x24\x05" + b"\x29\x00\x00hello" + b"\x01\x02\x03\x04"


KEPT = CompiledFiles(libraries="*/*.so", at_work="_CxxBuild", packed="*-cache")


def library(folder, name, at_work=False, content=None):
    (folder / "ab").mkdir(exist_ok=True)
    found = folder / "ab" / f"{name}.main.so"
    if content is None:
        shutil.copy(WHOLE, found)
    else:
        found.write_bytes(content)
    place = folder / "ab" / f"{name}.main_CxxBuild"
    if at_work:
        place.mkdir()
        (place / "part.o").write_bytes(b"")
    return found, place


def test_what_was_not_finished_goes_and_the_rest_stays(tmp_path):
    cut_off, place = library(tmp_path, "first", at_work=True)
    whole, _ = library(tmp_path, "second")
    assert remove_damaged(tmp_path, KEPT) == [cut_off]
    assert not cut_off.exists()
    assert not place.exists()
    assert whole.exists()
    assert remove_damaged(tmp_path, KEPT) == []


def test_what_another_process_is_at_work_on_stays(tmp_path):
    in_work, place = library(tmp_path, "first", at_work=True, content=b"")
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=place, stdin=subprocess.PIPE) as compiler:
        assert remove_damaged(tmp_path, KEPT) == []
        assert in_work.exists()
        compiler.kill()
    assert remove_damaged(tmp_path, KEPT) == [in_work]


@pytest.mark.parametrize("bytes_left", [0, 3, 63, 4096, -1])
def test_a_library_that_was_cut_off_goes(tmp_path, bytes_left):
    cut_off, _ = library(tmp_path, "first", content=WHOLE.read_bytes()[:bytes_left])
    assert remove_damaged(tmp_path, KEPT) == [cut_off]
    assert not cut_off.exists()


@pytest.mark.parametrize("content", [PACKED, ZSTANDARD], ids=["zlib", "zstandard"])
def test_an_entry_of_jax_that_was_cut_off_goes_and_a_whole_one_stays(tmp_path, content):
    entry = tmp_path / "jit__step-0123-cache"
    entry.write_bytes(content)
    assert remove_damaged(tmp_path, KEPT) == []
    for bytes_left in (0, 1, 4, 5, 8, len(content) - 1):
        entry.write_bytes(content[:bytes_left])
        assert remove_damaged(tmp_path, KEPT) == [entry], bytes_left
        assert not entry.exists()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert remove_damaged(tmp_path / "none", KEPT) == []
