"""What is written is whole or not there, goes where the path leads, and killed processes leave nothing for good."""

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading

import pytest

from faceoff.results.file import require_writable, write_text
from faceoff.system import whole_files
from faceoff.system.whole_files import keep, kept, remove_parts, remove_scratch, scratch_folder, write_whole


def test_a_symbolic_link_stays_and_the_file_that_it_names_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    target, link, second = tmp_path / "far" / "t.csv", tmp_path / "link.csv", tmp_path / "second.csv"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("far/t.csv")
    second.symlink_to(link)
    write_text(second, "new")
    assert target.read_text() == "new"
    assert link.is_symlink()
    assert second.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["t.csv"]


def test_a_link_to_nothing_yet_makes_the_file_that_it_names(tmp_path):
    (tmp_path / "link").symlink_to("later")
    require_writable(tmp_path / "link")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "later").read_text() == "new"


def test_a_link_that_leads_to_itself_is_an_error_and_stays(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="leads to itself"):
        write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()


def test_a_fifo_is_written_into(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    require_writable(fifo)
    reader.start()
    write_whole(fifo, b"x" * 200_000)
    reader.join(10)
    assert read == [b"x" * 200_000]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_is_written_into():
    write_text(whole_files.Path("/dev/null"), "nothing")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="space"):
        write_whole(whole_files.Path("/dev/full"), b"x")


def test_standard_output_by_its_name_stays_what_it_is(tmp_path):
    code = "import sys; from pathlib import Path; from faceoff.results.file import write_text; "
    code += "write_text(Path('/dev/stdout'), 'one\\n'); print('two')"
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_a_full_disk_leaves_nothing_begun(tmp_path):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    code = (
        "import pathlib, sys; from faceoff.system.whole_files import keep; keep(pathlib.Path(sys.argv[1]), 'x' * 5000)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "key.json")], preexec_fn=limited, check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_read_again_only_while_it_is_whole(tmp_path):
    path = tmp_path / "noise" / "key.json"
    keep(path, '{"a": 0.5}')
    assert kept(path) == '{"a": 0.5}'
    whole = path.read_bytes()
    for damaged in (b"", b"{}", whole[:-1], whole.replace(b"0.5", b"0.6"), b"\xff" * 20):
        path.write_bytes(damaged)
        assert kept(path) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from faceoff.system import whole_files
def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = kill
if sys.argv[1] == "file":
    whole_files.write_whole(Path(sys.argv[2]), b"x" * 5000)
else:
    with whole_files.scratch_folder() as folder:
        (folder / "more").mkdir()
        kill()
"""


def test_what_a_killed_process_had_begun_goes_and_what_is_in_work_stays(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, "file", str(tmp_path / "result.json")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert remove_parts(tmp_path) == [left]
    descriptor, in_work = tempfile.mkstemp(dir=tmp_path, prefix=".a.", suffix=".part")
    whole_files.fcntl.flock(descriptor, whole_files.fcntl.LOCK_EX)
    os.write(descriptor, b"x")
    assert remove_parts(tmp_path) == []
    os.close(descriptor)
    assert [str(path) for path in remove_parts(tmp_path)] == [in_work]


def test_the_scratch_folder_of_a_killed_process_goes_and_a_living_ones_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "faceoff-of-somebody").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, "folder"])
    assert len(list(tmp_path.iterdir())) == 2
    with scratch_folder() as folder:
        assert {path.name for path in tmp_path.iterdir()} == {"faceoff-of-somebody", folder.name}
        assert remove_scratch() == []
    assert [path.name for path in tmp_path.iterdir()] == ["faceoff-of-somebody"]
