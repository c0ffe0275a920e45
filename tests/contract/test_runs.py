"""Whole runs of the command, with real workers that are killed, frozen, interrupted or missing."""

import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from faceoff import load
from faceoff.core.spec import Contender
from faceoff.frameworks.configuration import Configuration
from faceoff.frameworks.installations import find_installation, variable_name
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.environment import tilts

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240


@pytest.fixture(scope="module")
def pair() -> tuple[Contender, Contender]:
    """Two contenders of different frameworks: one to be harmed, one that has to come through."""
    installed = [name for name, f in FRAMEWORKS.items() if find_installation(f, Configuration()).installed]
    if len(installed) < 2:
        pytest.skip("needs two frameworks")
    chosen = [name for name in ("pytorch", "jax", "tensorflow") if name in installed][:2]
    first, second = (Contender(name, next(iter(FRAMEWORKS[name].modes))) for name in chosen)
    return first, second


@contextmanager
def running(out: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command, started; whatever happens, nothing of it is left behind."""
    command = [sys.executable, "-m", "faceoff", *arguments, "--out", str(out)]
    # What is set where the tests run, a run would tell of.
    shell = {name: value for name, value in os.environ.items() if not tilts(name)}
    with (out.parent / "stderr.txt").open("w") as errors:
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT, env={**shell, **environment},
            # Where the tests run in the background of a script they ignore Ctrl-C, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()
            run.communicate()


def progress(out: Path) -> str:
    return (out.parent / "stderr.txt").read_text()


def wait_for(condition, what: str, limit_s: float = LIMIT_S) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not happen within {limit_s} s"
        time.sleep(0.02)


def workers(run: subprocess.Popen[str]) -> dict[str, int]:
    """Process id of each framework's worker."""
    found = {}
    for process in psutil.Process(run.pid).children():
        command = process.cmdline()
        if "faceoff.worker" in command:
            found[Path(command[command.index("faceoff.worker") + 2]).name] = process.pid
    return found


def kill_at_work(process_id: int) -> None:
    """Kills a worker that is in the middle of a request: one that is idle would be replaced, and nothing be lost."""
    worker = psutil.Process(process_id)
    before_s = sum(worker.cpu_times()[:2])
    wait_for(lambda: sum(worker.cpu_times()[:2]) > before_s + 0.05, "work of the worker")
    worker.kill()


def finish(run: subprocess.Popen[str], limit_s: float = LIMIT_S) -> tuple[int, str]:
    """Waits for the end; returns status and standard output."""
    output, _ = run.communicate(timeout=limit_s)
    return run.returncode, output


def outcomes(result, contender: Contender) -> set[str]:
    return {record.outcome for record in result.records if record.contender == str(contender)}


def bench(pair, *more: str) -> list[str]:
    names = ",".join(str(contender) for contender in pair)
    return [
        "bench",
        "--preset",
        "small",
        "--models",
        "dense",
        "--contenders",
        names,
        "--budget",
        "quick",
        "--threads",
        "1",
        *more,
    ]


@pytest.mark.thorough
def test_a_worker_killed_while_it_is_timed_is_one_crashed_case_and_all_others_are_complete(tmp_path, pair):
    victim, other = pair
    with running(tmp_path / "out", *bench(pair, "--models", "dense,rnn", "--budget", "6")) as run:
        wait_for(lambda: "speed: dense inference" in progress(tmp_path / "out"), "timing")
        ids = workers(run)
        kill_at_work(ids[victim.framework])
        status, _ = finish(run)
    result = load(tmp_path / "out" / "result.json")
    assert status == 3
    crashed = [case for case in result.cases if case.outcome == "crashed"]
    assert [case.contender for case in crashed] == [str(victim)]
    assert "SIGKILL" in crashed[0].reason
    assert outcomes(result, other) == {"ok"}
    assert len(result.cases) == 2 * 2 * 2
    assert sum(case.outcome == "ok" and case.speed is not None for case in result.cases) == 7
    assert not any(psutil.pid_exists(process_id) for process_id in ids.values())
    assert "crashed" in (tmp_path / "out" / "page.html").read_text()


@pytest.mark.thorough
def test_a_worker_that_hangs_ends_as_timeout_and_all_others_are_complete(tmp_path, pair):
    victim, other = pair
    with running(tmp_path / "out", *bench(pair, "--timeout", "8", "--models", "rnn")) as run:
        wait_for(lambda: "agreement: rnn" in progress(tmp_path / "out"), "the check of agreement")
        process_id = workers(run)[victim.framework]
        # Again and again, as the pool wakes workers that it has paused itself.
        with suppress(ProcessLookupError):
            while run.poll() is None:
                os.kill(process_id, signal.SIGSTOP)
                time.sleep(0.05)
        status, _ = finish(run)
    result = load(tmp_path / "out" / "result.json")
    assert status == 3
    assert "timeout" in outcomes(result, victim)
    assert outcomes(result, other) == {"ok"}
    assert len(result.cases) == 2 * 2


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="ctrl-c"),
        pytest.param(signal.SIGTERM, id="terminated", marks=pytest.mark.thorough),
    ],
)
def test_an_interrupted_run_keeps_what_was_finished_and_leaves_no_process(tmp_path, pair, number):
    # The models still to come keep the run from ending before the signal arrives.
    with running(tmp_path / "out", *bench(pair, "--models", "dense,residual,rnn,lstm")) as run:
        wait_for(lambda: "speed: dense training" in progress(tmp_path / "out"), "timing")
        growing = (tmp_path / "out" / "page.html").read_text()
        ids = workers(run)
        run.send_signal(number)
        status, output = finish(run, 30)
    assert status == 130, progress(tmp_path / "out")
    assert f"resume: faceoff bench --resume {tmp_path / 'out'}" in output
    result = load(tmp_path / "out" / "result.json")
    assert result.interrupted
    finished = [case for case in result.cases if case.workload["step"] == "inference"]
    assert {case.outcome for case in finished} == {"ok"}
    assert not any(psutil.pid_exists(process_id) for process_id in ids.values())
    page = (tmp_path / "out" / "page.html").read_text()
    assert "stopped before its end" in page
    # The first ranking was on the page while the run went on.
    assert "faceoff: so far: Dense inference" in progress(tmp_path / "out")
    assert "This run goes on: 2 of 13 parts are done." in growing
    assert "Time of one call in steady state" in growing
    assert "goes on" not in page
    assert [canary.workload for canary in result.canaries][:1] == [finished[0].parsed_workload().name]


def test_a_framework_that_is_missing_stops_no_other_and_the_page_says_what_to_install(tmp_path, pair):
    victim, other = pair
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare" / "bin" / "python")
    arguments = ["compare", *bench(pair, "--models", "dense")[1:]]
    with running(tmp_path / "out", *arguments, **{variable_name(victim.framework): python}) as run:
        status, output = finish(run)
    result = load(tmp_path / "out" / "result.json")
    assert status == 3
    assert outcomes(result, victim) == {"missing"}
    assert outcomes(result, other) == {"ok"}
    assert result.cold_starts
    assert result.training_runs
    install = f"pip install '.[{victim.framework}]'"
    assert install in output
    assert f"[{victim.framework}]" in (tmp_path / "out" / "page.html").read_text()


@pytest.mark.thorough
def test_compiling_alone_leaves_compiled_code_and_nothing_else(tmp_path):
    if not find_installation(FRAMEWORKS["pytorch"], Configuration()).installed:
        pytest.skip("needs PyTorch")
    chosen = ["--preset", "small", "--models", "dense", "--contenders", "pytorch:compile"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "harness"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-m", "faceoff", "compare", "--compile-only", *chosen, "--quiet"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"kept in {tmp_path / 'cache' / 'faceoff'}" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert list(tmp_path.rglob("*.so"))


def test_compiling_alone_goes_on_with_no_run(tmp_path, pair):
    with running(tmp_path / "out", "compare", "--compile-only") as run:
        status, _ = finish(run)
    assert status == 2
    assert progress(tmp_path / "out") == (
        "faceoff: out: compiling alone keeps no result; leave out --out or --compile-only\n"
    )


def test_json_is_the_only_thing_on_standard_output_and_is_the_result(tmp_path, pair):
    arguments = ["agree", "--preset", "small", "--models", "dense", "--contenders", str(pair[1]), "--json"]
    with running(tmp_path / "out", *arguments) as run:
        status, output = finish(run)
    assert status == 0
    printed = json.loads(output)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())["faceoff"]
    assert {agreement["check"] for agreement in printed["agreements"]} == {"meaning", "precision"}


def test_a_gpu_that_is_not_there_is_told_in_one_line(tmp_path, pair):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    arguments = ["bench", "--preset", "small", "--contenders", ",".join(map(str, pair)), "--device", "gpu"]
    with running(tmp_path / "out", *arguments) as run:
        status, output = finish(run)
    assert status == 2
    assert output == ""
    lines = progress(tmp_path / "out").strip().splitlines()
    assert len(lines) == 1
    assert all(contender.framework in lines[0] for contender in pair)


def test_without_a_gpu_auto_runs_on_the_cpu_and_says_so(tmp_path, pair):
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    arguments = ["agree", "--preset", "small", "--models", "dense", "--contenders", str(pair[1]), "--device", "auto"]
    with running(tmp_path / "out", *arguments, "--dtype", "float64", "--quiet") as run:
        status, _ = finish(run)
    assert status == 0
    (line,) = progress(tmp_path / "out").strip().splitlines()
    assert line.startswith(f"faceoff: running on the CPU, as not every framework sees a GPU: {pair[1].framework}: ")
    assert {check.workload["device"] for check in load(tmp_path / "out" / "result.json").agreements} == {"cpu"}
