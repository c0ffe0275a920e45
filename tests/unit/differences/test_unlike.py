"""Result files that are unlike or damaged: `faceoff diff` refuses them with the reason, and compares by force."""

import json
import math

import pytest

from faceoff import diff
from faceoff.commands.cli import main
from faceoff.core.errors import ResultFileError
from faceoff.results.file import save
from tests.unit.differences.samples import LSTM, RNN, find, run_of
from tests.unit.results.samples import empty, main_job, workload


def other_machine(result):
    result.machine = {**result.machine, "processor": "another", "cores": 64}


def other_threads(result):
    result.threads = 1


def without_lstm(result):
    result.cases = [c for c in result.cases if c.parsed_workload().model != LSTM]


def without_jax(result):
    result.contenders.pop()
    result.cases = [c for c in result.cases if c.contender != "jax:jit"]
    result.agreements = [a for a in result.agreements if a.contender != "jax:jit"]


def other_rate(result):
    for record in result.cases:
        record.workload = {**record.workload, "optimiser": {**record.workload["optimiser"], "learning_rate": 0.5}}


def on_gpu(result, name):
    for record in (*result.cases, *result.agreements):
        record.workload = {**record.workload, "device": "gpu"}
    for info in result.contenders:
        info.settings["device"] = name


class TestUnlike:
    @pytest.mark.parametrize(
        ("change", "reasons"),
        [
            (other_machine, ["processor AMD EPYC 7B13 and another", "cores 2 and 64"]),
            (other_threads, ["threads 2 and 1"]),
            (without_lstm, [f"{workload(LSTM).name} not in"]),
            (without_jax, ["jax:jit only in"]),
            (other_rate, ["constants of rnn"]),
        ],
    )
    def test_unlike_files_are_refused_with_the_reason_and_compared_by_force(self, run_diff, change, reasons):
        before, after = run_of(1), run_of(2)
        change(after)
        for files in ((before, after), (after, before)):
            status, out, err = run_diff(*files)
            assert status == 2
            assert out == ""
            assert len(err.splitlines()) == 1
            assert "--force" in err
        status, _, err = run_diff(before, after)
        assert all(reason in err for reason in reasons)
        status, out, _ = run_diff(before, after, "--force")
        assert status == 0
        assert "Unlike, and compared all the same (--force):" in out
        assert all(reason in " ".join(diff(before, after, force=True).unlike) for reason in reasons[:1])

    def test_a_case_of_one_contender_that_is_missing_is_named_with_it(self):
        after = run_of(2)
        after.cases.remove(find(after, LSTM, "jax:jit"))
        with pytest.raises(ResultFileError, match=r"got lstm\S+inference\[jax:jit\] not in result B"):
            diff(run_of(1), after)

    def test_another_accelerator_is_refused(self):
        before, after = run_of(1), run_of(2)
        on_gpu(before, "NVIDIA A100")
        on_gpu(after, "NVIDIA H100")
        with pytest.raises(ResultFileError, match="device NVIDIA A100 and NVIDIA H100"):
            diff(before, after)

    def test_another_card_is_refused_also_where_frameworks_do_not_name_theirs(self):
        before, after = run_of(1), run_of(2)
        for result, card in ((before, "NVIDIA H100"), (after, "NVIDIA H200")):
            on_gpu(result, "/device:GPU:0")
            result.machine = {**result.machine, "gpu": {"name": card}}
        with pytest.raises(ResultFileError, match="GPU NVIDIA H100 and NVIDIA H200"):
            diff(before, after)

    def test_what_else_of_a_card_changed_is_a_setting_of_its_own(self):
        before, after = run_of(1), run_of(2)
        cards = {"name": "NVIDIA H100", "driver": "580.1"}, {"name": "unknown", "driver": "590.2"}
        for result, card in zip((before, after), cards, strict=True):
            on_gpu(result, "/device:GPU:0")
            result.machine = {**result.machine, "gpu": card}
        changed = [(s.what, s.before, s.after) for s in diff(before, after).settings if s.what.startswith("GPU")]
        # A name that the driver does not tell is no other card.
        assert changed == [("GPU name", "NVIDIA H100", "unknown"), ("GPU driver", "580.1", "590.2")]

    def test_an_interrupted_run_is_said_to_lack_cases_for_that(self):
        after = run_of(2)
        without_lstm(after)
        after.interrupted = True
        with pytest.raises(ResultFileError, match="which was interrupted"):
            diff(run_of(1), after)

    def test_a_refusal_is_one_line_whatever_the_names_are(self, run_diff):
        after = run_of(2)
        for record in (*after.contenders[2:], *after.records):
            record.contender = record.contender.replace("jax:jit", "x:\n\x1b[2J" + "y" * 9999)
        after.machine["processor"] = "a\nb"
        status, _, err = run_diff(run_of(1), after)
        assert status == 2
        assert len(err.splitlines()) == 1
        assert "\x1b" not in err
        assert len(err) < 2000

    def test_files_with_nothing_in_common_are_refused_also_by_force(self):
        with pytest.raises(ResultFileError, match="nothing to compare"):
            diff(run_of(1), empty(), force=True)

    def test_older_files_without_rounds_by_process_are_refused(self, run_diff):
        older = main_job()
        for timed in older.cases:
            if timed.speed:
                timed.speed.processes = []
        status, _, err = run_diff(older, older)
        assert status == 2
        assert "which process ran which round" in err
        assert len(err.splitlines()) == 1

    def test_one_process_of_each_contender_is_refused(self):
        result = run_of(1)
        for timed in result.cases:
            timed.speed.processes, timed.speed.rounds_s = timed.speed.processes[:1], timed.speed.rounds_s[:12]
        with pytest.raises(ResultFileError, match="one process of each contender"):
            diff(result, result)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda speed: speed.rounds_s.pop(),
            lambda speed: setattr(speed.processes[0], "passes", 0),
            lambda speed: setattr(speed.processes[1], "passes", 13),
            lambda speed: setattr(speed.processes[1], "disturbed", [12]),
            lambda speed: setattr(speed.processes[1], "disturbed", [-1]),
            lambda speed: speed.rounds_s.__setitem__(3, 0.0),
            lambda speed: speed.rounds_s.__setitem__(3, math.inf),
            lambda speed: speed.rounds_s.__setitem__(3, 1e300),
        ],
    )
    def test_rounds_that_do_not_fit_their_processes_are_refused(self, damage):
        damaged = run_of(1)
        damage(damaged.cases[1].speed)
        with pytest.raises(ResultFileError, match="do not fit its processes"):
            diff(run_of(1), damaged)

    def test_contenders_that_were_measured_for_fewer_passes_are_compared_all_the_same(self):
        result = run_of(1)
        find(result, RNN, "jax:jit").speed = find(run_of(1, passes=9), RNN, "jax:jit").speed
        cases = diff(result, result).cases
        assert len(cases) == len(diff(run_of(1), run_of(1)).cases)
        assert all(case.ratio == 1.0 for case in cases)

    def test_a_case_that_is_there_twice_or_not_a_workload_or_not_timed_is_refused(self):
        twice, strange, untimed = run_of(1), run_of(1), run_of(1)
        twice.cases.append(twice.cases[0])
        strange.cases[0].workload = {"model": "<b>", "batch_size": 3}
        untimed.cases[0].speed = None
        for result, said in ((twice, "twice"), (strange, "not a workload"), (untimed, "was not timed")):
            with pytest.raises(ResultFileError, match=said):
                diff(run_of(1), result)

    def test_another_schema_is_refused(self, run_diff, tmp_path, capsys):
        save(run_of(1), tmp_path / "a.json")
        document = json.loads((tmp_path / "a.json").read_text())
        document["faceoff"]["schema_version"] = 99
        (tmp_path / "b.json").write_text(json.dumps(document))
        with pytest.raises(SystemExit) as ended:
            main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
        assert ended.value.code == 2
        assert "another schema" in capsys.readouterr().err
