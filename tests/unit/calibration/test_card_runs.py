"""Parts are ended in time and the rest goes on; what is finished is written at once, and not run again."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from tests.calibration.on_a_gpu import running, schedule
from tests.calibration.on_a_gpu.__main__ import main, parse
from tests.calibration.on_a_gpu.packing import pack, pieces_of, unpack
from tests.calibration.on_a_gpu.plan import FOLDER, Part
from tests.calibration.on_a_gpu.running import ROOT
from tests.calibration.on_a_gpu.schedule import Schedule, name_opencl_driver
from tests.calibration.on_a_gpu.states import Call, States

WRITES = "import sys; open(sys.argv[1] + '/found', 'a').write('x')"
SLEEPS = "import time, sys; open(sys.argv[1] + '/begun', 'w'); time.sleep(60)"
# As a run does: it writes down what it has when it is interrupted.
INTERRUPTIBLE = """
import sys, time
try:
    time.sleep(60)
except KeyboardInterrupt:
    open(sys.argv[1] + '/found', 'w').write('half')
    sys.exit(130)
"""
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
# Of a part that resumes: the first time it writes a journal and goes on for long, the second time it ends.
RESUMES = """
import pathlib, sys, time
if sys.argv[1] == '--resume':
    folder = pathlib.Path(sys.argv[2])
    refused = (folder / 'of another machine').exists()
    (folder / 'found').write_text('resumed')
    sys.exit(2 if refused else 0)
folder = pathlib.Path(sys.argv[2])
(folder / 'found').write_text('anew')
(folder / 'journal.jsonl').write_text('{}')
time.sleep(0 if (folder / '../quick').exists() else 60)
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    """As long as an interpreter needs to end."""
    monkeypatch.setattr(running, "GRACE_S", 1.5)
    monkeypatch.setattr(schedule, "GRACE_S", 1.5)


def part(name, code, limit_s=30.0, resumes=False):
    # Without packages an interpreter is there at once, on a busy machine too.
    arguments = ("-S", "-c", code)
    return Part(name, limit_s, arguments if resumes else (*arguments, FOLDER), resumes)


def run(parts, out, *options):
    status = Schedule(parse(["run", "--out", str(out), "--minutes", "1", *map(str, options)]), parts).run()
    return status, {entry["name"]: entry for entry in json.loads((out / "parts.json").read_text())["parts"]}


def test_a_part_that_overruns_its_limit_is_interrupted_and_the_rest_goes_on(tmp_path):
    parts = [
        part("long", INTERRUPTIBLE, 4),
        part("deaf", DEAF, 4),
        part("bad", "raise ValueError"),
        part("good", WRITES),
    ]
    status, found = run(parts, tmp_path)
    assert status == 3
    assert {name: entry["state"] for name, entry in found.items()} == {
        "long": "out of time", "deaf": "out of time", "bad": "finished", "good": "finished",
    }  # fmt: skip
    # Python ends so where something was raised, as a run does with a disagreement; its log says which.
    assert found["bad"]["calls"][0]["status"] == 1
    assert "ValueError" in (tmp_path / "bad" / "log.txt").read_text()
    assert (tmp_path / "long" / "found").read_text() == "half"
    assert found["deaf"]["calls"][0]["status"] == -signal.SIGKILL
    assert all(entry["calls"][0]["took_s"] <= 4.5 for entry in found.values())
    assert "left: long, deaf" in (tmp_path / "log.txt").read_text()


def test_a_part_is_interrupted_also_where_all_was_started_in_the_background_of_a_script(tmp_path):
    # A shell lets what it starts with & ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, found = run([part("long", INTERRUPTIBLE, 4)], tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (found["long"]["state"], found["long"]["calls"][0]["status"]) == ("out of time", 130)
    assert (tmp_path / "long" / "found").read_text() == "half"


def test_a_part_does_not_outlive_whoever_runs_it(tmp_path):
    begun = INTERRUPTIBLE.replace("try:\n", "open(sys.argv[1] + '/begun', 'w').close()\ntry:\n")
    code = "import sys; from tests.calibration.on_a_gpu.__main__ import parse\n"
    code += (
        "from tests.calibration.on_a_gpu.schedule import Schedule; from tests.calibration.on_a_gpu.plan import Part\n"
    )
    code += (
        "Schedule(parse(['run', '--out', sys.argv[1]]), [Part('long', 50, ('-S', '-c', *sys.argv[2:]), False)]).run()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path), begun, FOLDER], cwd=ROOT) as scheduled:
        wait_for((tmp_path / "long" / "begun").exists)
        scheduled.kill()
    found = tmp_path / "long" / "found"
    wait_for(lambda: found.exists() and found.read_text())
    # It was interrupted, and did not come to the end of its minute.
    assert found.read_text() == "half"


def wait_for(condition):
    until_s = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_a_part_that_comes_to_its_end_when_it_is_interrupted_is_finished(tmp_path):
    status, found = run([part("late", INTERRUPTIBLE.replace("130", "3"), 4)], tmp_path)
    assert (status, found["late"]["state"], found["late"]["calls"][0]["status"]) == (0, "finished", 3)


def test_what_is_finished_is_not_run_again_and_what_failed_is(tmp_path):
    parts = [part("good", WRITES), part("bad", "import sys; sys.exit(2)")]
    run(parts, tmp_path)
    status, found = run(parts, tmp_path)
    assert status == 3
    assert (tmp_path / "good" / "found").read_text() == "x"
    assert [len(found[name]["calls"]) for name in ("good", "bad")] == [1, 2]
    # What was there of it is kept.
    assert (tmp_path / "earlier" / "bad.1" / "log.txt").exists()


def test_a_part_with_a_journal_goes_on_in_the_time_that_is_left(tmp_path):
    status, found = run([part("run", RESUMES, 4, resumes=True), part("good", WRITES)], tmp_path)
    assert status == 0
    assert [call["status"] for call in found["run"]["calls"]][1:] == [0]
    assert (tmp_path / "run" / "found").read_text() == "resumed"
    assert (tmp_path / "good" / "found").exists()


def test_who_had_no_turn_yet_comes_first_and_who_had_one_gets_more_time(tmp_path):
    parts = [part("first", "pass", 60), part("second", "pass", 80), part("third", "pass", 85)]
    states = States(tmp_path / "parts.json", parts)
    states[parts[1]].calls.append(Call("2026-01-01"))
    states.write()
    run(parts, tmp_path)
    said = [
        line.split("s  ")[1].split(" s")[0]
        for line in (tmp_path / "log.txt").read_text().splitlines()
        if "begins" in line
    ]
    assert said == ["first: begins, at most 60", "third: begins, at most 85", "second: begins, at most 160"]


def test_a_journal_of_another_machine_is_set_aside_and_the_part_begun_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").write_text("{}")
    (tmp_path / "run" / "of another machine").touch()
    (tmp_path / "quick").touch()
    status, found = run([part("run", RESUMES, resumes=True)], tmp_path)
    assert status == 0
    assert [call["status"] for call in found["run"]["calls"]] == [2, 0]
    assert (tmp_path / "run" / "found").read_text() == "anew"
    assert (tmp_path / "earlier" / "run.1" / "of another machine").exists()


def test_what_is_finished_is_packed_at_once_and_another_machine_goes_on_from_there(tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    parts = [part("good", WRITES), part("seen", f"import os; print(os.path.getsize({str(out / 'results.zip.1')!r}))")]
    status, found = run([*parts, part("slow", INTERRUPTIBLE, 4)], out, "--work", work)
    assert (status, found["seen"]["state"], found["slow"]["state"]) == (3, "finished", "out of time")
    assert int((work / "seen" / "log.txt").read_text().splitlines()[-1]) > 100
    assert {path.name for path in out.iterdir()} == {"parts.json", "log.txt", "results.zip.1", "caches.zip.1"}
    status, found = run([*parts, part("slow", WRITES)], tmp_path / "next", "--work", tmp_path / "w2", "--before", out)
    assert status == 0
    assert [len(found[name]["calls"]) for name in ("good", "seen", "slow")] == [1, 1, 2]
    assert (tmp_path / "w2" / "good" / "found").read_text() == "x"
    assert (tmp_path / "w2" / "earlier" / "slow.1" / "found").read_text() == "half"


def test_compiled_code_goes_along_within_its_limit_the_oldest_first(tmp_path):
    compiles = (
        "import os, pathlib; kept = pathlib.Path(os.environ['XDG_CACHE_HOME']);"
        "[(kept / str(n)).write_bytes(os.urandom(2**19)) or os.utime(kept / str(n), (n, n)) for n in range(1, 5)]"
    )
    work, out = tmp_path / "work", tmp_path / "out"
    run([part("compiles", compiles)], out, "--work", work, "--cache-mib", "1.2")
    assert (out / "caches.zip.1").stat().st_size <= 1.2 * 2**20
    assert "2 files are left out" in (out / "log.txt").read_text()
    finds = "import os; print(sorted(os.listdir(os.environ['XDG_CACHE_HOME'])))"
    run([part("finds", finds)], tmp_path / "next", "--work", tmp_path / "w2", "--caches", out)
    assert (tmp_path / "w2" / "finds" / "log.txt").read_text().splitlines()[-1] == "['1', '2']"


def test_a_zip_is_cut_into_pieces_and_a_missing_piece_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.calibration.on_a_gpu.packing.PIECE_BYTES", 1000)
    (tmp_path / "a").mkdir()
    contents = {f"a/{number}": os.urandom(256 * number) for number in range(1, 10)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    target = tmp_path / "some.zip"
    assert pack(tmp_path, [tmp_path / name for name in contents], target) == []
    pieces = pieces_of(target)
    assert len(pieces) > 9
    assert all(piece.stat().st_size <= 1000 for piece in pieces)
    assert unpack(target, tmp_path / "b") == len(contents)
    assert all((tmp_path / "b" / name).read_bytes() == content for name, content in contents.items())
    pieces[3].unlink()
    with pytest.raises(zipfile.BadZipFile):
        unpack(target, tmp_path / "c")


def test_whoever_ends_the_call_ends_the_part_and_has_what_is_finished(tmp_path):
    code = f"""if True:
        import sys
        from tests.calibration.on_a_gpu import __main__ as command
        from tests.calibration.on_a_gpu.plan import Part

        good = Part("good", 30, ("-c", {WRITES!r}, "{FOLDER}"), False)
        command.plan = lambda rehearse=False: [good, Part("long", 60, ("-c", {SLEEPS!r}, "{FOLDER}"), False)]
        sys.exit(command.main(["run", "--out", {str(tmp_path)!r}]))
    """
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL)
    until_s = time.monotonic() + 20
    while not (tmp_path / "long" / "begun").exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(20) == 130
    found = {entry["name"]: entry for entry in json.loads((tmp_path / "parts.json").read_text())["parts"]}
    assert (found["good"]["state"], found["long"]["state"]) == ("finished", "interrupted")
    assert found["long"]["calls"][0]["status"] not in (None, 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "nothing"], "expected some of doctor, agreement"),
        (["--minutes", "0"], "expected more than 0"),
    ],
)
def test_bad_usage_is_told(options, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_no_earlier_call_is_told(tmp_path, capsys):
    assert main(["run", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "w"), "--before", str(tmp_path)]) == 2
    assert "no results.zip of an earlier call" in capsys.readouterr().err


def test_nvidias_driver_is_named_to_opencl_where_nothing_else_does(tmp_path):
    system, driver = tmp_path / "system", tmp_path / "driver"
    for folder in (system, driver):
        folder.mkdir()
    (system / "pocl.icd").write_text("libpocl.so.2\n")
    named = {"system": system, "folders": [str(driver)]}
    assert name_opencl_driver(tmp_path / "v", {}, **named) == {}
    (driver / "libnvidia-opencl.so.1").touch()
    assert name_opencl_driver(tmp_path / "v", {}, **named) == {"OCL_ICD_VENDORS": str(tmp_path / "v")}
    assert {path.name: path.read_text() for path in (tmp_path / "v").iterdir()} == {
        "nvidia.icd": f"{driver}/libnvidia-opencl.so.1\n", "pocl.icd": "libpocl.so.2\n",
    }  # fmt: skip
    assert name_opencl_driver(tmp_path / "v", {"OCL_ICD_VENDORS": "/mine"}, **named) == {}
    (system / "nvidia.icd").write_text("libnvidia-opencl.so.1\n")
    assert name_opencl_driver(tmp_path / "v", {}, **named) == {}


def test_what_a_card_needs_is_asked_of_it_unless_it_is_a_rehearsal():
    assert parse(["run"]).device == "gpu"
    assert parse(["run", "--rehearse"]).device == "cpu"
