"""What changed between two result files: found, judged against its interval, refused where the files are unlike."""

import json
import math

import numpy as np
import pytest

from harness import diff
from harness.cli import main
from harness.core.errors import InputError, ResultFileError
from harness.diff_result import Diff
from harness.diff_text import escape_markdown, to_markdown
from harness.result_file import save
from harness.results import NoiseFloor
from tests.unit.diff_samples import LSTM, RNN, agreement, find, run_of
from tests.unit.hostile_samples import HOSTILE
from tests.unit.result_samples import empty, main_job, workload


@pytest.fixture
def run(tmp_path, capsys):
    """Runs `faceoff diff` on two results; exit status, standard output and standard error."""

    def run_diff(before, after, *options):
        paths = []
        for name, result in (("a.json", before), ("b.json", after)):
            paths.append(str(tmp_path / name))
            save(result, tmp_path / name)
        with pytest.raises(SystemExit) as ended:
            main(["diff", *paths, *options])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run_diff


class TestSpeed:
    def test_a_file_against_itself_has_changed_in_nothing(self, run):
        result = run_of(1)
        found = diff(result, result)
        assert found.exit_status == 0
        assert {c.ratio for c in found.cases} == {1.0}
        assert found.median_ratio == 1.0
        assert [found.outcomes, found.noise, found.settings, found.unlike, found.not_compared] == [[]] * 5
        status, out, _ = run(result, result)
        assert status == 0
        assert "No regression beyond 10 %" in out

    def test_two_runs_of_the_same_have_no_regression_whatever_their_passes(self):
        for seed in range(10):
            found = diff(run_of(seed, passes=12), run_of(100 + seed, passes=15))
            assert found.exit_status == 0
            assert not any(c.verdict == "slower" for c in found.cases)

    def test_a_planted_slowdown_is_a_regression_and_named(self, run):
        status, out, _ = run(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2}))
        assert status == 1
        assert out.startswith("1 regression beyond 10 %")
        assert out.splitlines()[1].startswith(f"  {workload(LSTM).name}, pytorch:eager: 1.")
        assert out.count("REGRESSION") == 1

    def test_what_got_faster_is_no_regression(self):
        found = diff(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 0.7}))
        assert found.exit_status == 0
        assert [(c.contender, c.verdict) for c in found.cases if c.verdict != "tie"] == [("pytorch:eager", "faster")]

    @pytest.mark.parametrize(("threshold", "status"), [(0, 1), (10, 1), (15, 1), (25, 0), (100, 0)])
    def test_the_threshold_says_what_is_a_regression(self, run, threshold, status):
        files = run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2})
        assert run(*files, "--threshold", str(threshold), "--quiet") == (status, "", "")
        slow = [c for c in diff(*files, threshold=threshold).cases if c.verdict == "slower"]
        assert "pytorch:eager" in [c.contender for c in slow]

    @pytest.mark.parametrize("threshold", [-1, math.nan, math.inf, True])
    def test_a_threshold_that_is_no_percentage_is_refused(self, threshold):
        with pytest.raises(InputError, match="threshold: out of range"):
            diff(run_of(1), run_of(1), threshold=threshold)

    def test_a_slowdown_below_the_tie_margin_counts_where_the_threshold_is_lower(self):
        files = run_of(1, passes=40, processes=4), run_of(2, {(LSTM, "pytorch:eager"): 1.04}, passes=40, processes=4)
        assert diff(*files, threshold=10).exit_status == 0
        assert diff(*files, threshold=1).exit_status == 1

    def test_a_slowdown_within_its_interval_is_unresolved(self):
        before, after = run_of(1, passes=3, processes=2), run_of(2, passes=3, processes=2)
        for index, process in enumerate(np.array_split(np.array(find(after, RNN, "jax:jit").speed.rounds_s), 2)):
            process *= 1.0 + 0.6 * index
            find(after, RNN, "jax:jit").speed.rounds_s[3 * index : 3 * index + 3] = process.tolist()
        found = diff(before, after)
        slower = next(c for c in found.cases if c.contender == "jax:jit" and "rnn" in c.workload)
        assert slower.ratio > 1.1
        assert slower.verdict == "unresolved"
        assert found.exit_status == 0

    def test_a_machine_that_got_slower_is_told_and_taken_out_of_no_ratio(self, run):
        files = run_of(1), run_of(2, common=1.2)
        found = diff(*files)
        assert found.median_ratio == pytest.approx(1.2, abs=0.02)
        assert len(found.regressions) == len(found.cases) == 6
        _, out, _ = run(*files)
        assert "Median change of all 6 cases: +" in out
        assert "may be the machine's" in " ".join(out.split())


class TestOutcomes:
    def test_what_no_longer_agrees_is_a_regression(self, run):
        after = run_of(2)
        find(after, RNN, "jax:jit").outcome = "disagrees"
        status, out, _ = run(run_of(1), after)
        assert status == 1
        assert "1 record no longer agreeing" in out
        assert f"case {workload(RNN).name}, jax:jit: ok, now disagrees" in out

    @pytest.mark.parametrize("outcome", ["crashed", "missing", "timeout", "out_of_memory"])
    def test_what_was_ok_and_ended_otherwise_is_status_3(self, outcome):
        after = run_of(2)
        ended = find(after, RNN, "jax:jit")
        ended.outcome, ended.reason, ended.speed = outcome, "line one\nline two", None
        found = diff(run_of(1), after)
        assert found.exit_status == 3
        assert [(change.kind, change.after, change.reason) for change in found.outcomes] == [
            ("case", outcome, "line one")
        ]
        assert len(found.cases) == 5

    def test_a_regression_comes_before_a_crash(self):
        after = run_of(2, {(LSTM, "pytorch:eager"): 1.3})
        find(after, RNN, "jax:jit").outcome = "crashed"
        assert diff(run_of(1), after).exit_status == 1

    def test_what_is_mended_or_as_bad_as_before_is_status_0(self):
        before, after = run_of(1), run_of(2)
        find(before, RNN, "jax:jit").outcome = "crashed"
        find(before, LSTM, "jax:jit").outcome = find(after, LSTM, "jax:jit").outcome = "disagrees"
        found = diff(before, after)
        assert found.exit_status == 0
        assert [(change.before, change.after) for change in found.outcomes] == [("crashed", "ok")]

    def test_a_contender_that_did_not_start_is_told_once(self):
        after = run_of(2)
        for record in (after.contenders[2], *(r for r in after.records if r.contender == "jax:jit")):
            record.outcome, record.reason = "missing", "No module named 'jax'"
        found = diff(run_of(1), after)
        assert found.exit_status == 3
        assert [(change.kind, change.contender) for change in found.outcomes] == [("contender", "jax:jit")]
        after.cases = [c for c in after.cases if c.contender != "jax:jit"]
        after.agreements = [a for a in after.agreements if a.contender != "jax:jit"]
        assert diff(run_of(1), after) == found

    def test_noise_units_that_more_than_doubled_or_halved_are_listed_and_not_failed(self, run):
        before, after = run_of(1), run_of(2)
        after.agreements[0] = agreement("pytorch:eager", RNN, units=1.5)
        after.agreements[1] = agreement("pytorch:compile", RNN, units=0.3)
        after.agreements[2] = agreement("jax:jit", RNN, units=1.3)
        found = diff(before, after)
        assert [(c.contender, c.before, c.after) for c in found.noise] == [
            ("pytorch:eager", 0.7, 1.5),
            ("pytorch:compile", 0.7, 0.3),
        ]
        status, out, _ = run(before, after)
        assert status == 0
        assert "pytorch:eager, precision: 0.7, now 1.5" in out

    def test_versions_and_switches_may_change_and_are_listed(self):
        after = run_of(2)
        for info in after.contenders[:2]:
            info.versions = {**info.versions, "torch": "2.14.0"}
        after.contenders[2].settings["environment"] = {"NPROC": "2", "OMP_NUM_THREADS": "2"}
        after.seed = 8
        found = diff(run_of(1), after)
        assert found.exit_status == 0
        said = {change.what: (change.before, change.after, change.where) for change in found.settings}
        assert said["torch"] == ("2.13.0", "2.14.0", ["pytorch:eager", "pytorch:compile"])
        assert said["NPROC"] == ("", "2", ["jax:jit"])
        assert said["seed"] == ("7", "8", [])

    def test_a_busy_machine_and_an_interrupted_run_are_noted(self):
        after = run_of(2)
        after.interrupted = True
        after.noise_floors = [NoiseFloor(workload="w", resolvable=1.1, twins={}, disturbed=0.8, noisy=True)]
        assert [note.split(": ")[1] for note in diff(run_of(1), after).notes] == [
            "the run was interrupted",
            "the machine was busy while 1 of 1 workloads were timed",
        ]


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
    def test_unlike_files_are_refused_with_the_reason_and_compared_by_force(self, run, change, reasons):
        before, after = run_of(1), run_of(2)
        change(after)
        for files in ((before, after), (after, before)):
            status, out, err = run(*files)
            assert status == 2
            assert out == ""
            assert len(err.splitlines()) == 1
            assert "--force" in err
        status, _, err = run(before, after)
        assert all(reason in err for reason in reasons)
        status, out, _ = run(before, after, "--force")
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

    def test_a_refusal_is_one_line_whatever_the_names_are(self, run):
        after = run_of(2)
        for record in (*after.contenders[2:], *after.records):
            record.contender = record.contender.replace("jax:jit", "x:\n\x1b[2J" + "y" * 9999)
        after.machine["processor"] = "a\nb"
        status, _, err = run(run_of(1), after)
        assert status == 2
        assert len(err.splitlines()) == 1
        assert "\x1b" not in err
        assert len(err) < 2000

    def test_files_with_nothing_in_common_are_refused_also_by_force(self):
        with pytest.raises(ResultFileError, match="nothing to compare"):
            diff(run_of(1), empty(), force=True)

    def test_older_files_without_rounds_by_process_are_refused(self, run):
        older = main_job()
        for timed in older.cases:
            if timed.speed:
                timed.speed.processes = []
        status, _, err = run(older, older)
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

    def test_another_schema_is_refused(self, run, tmp_path, capsys):
        save(run_of(1), tmp_path / "a.json")
        document = json.loads((tmp_path / "a.json").read_text())
        document["faceoff"]["schema_version"] = 99
        (tmp_path / "b.json").write_text(json.dumps(document))
        with pytest.raises(SystemExit) as ended:
            main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
        assert ended.value.code == 2
        assert "another schema" in capsys.readouterr().err


class TestFormats:
    def test_json_is_the_typed_result(self, run):
        files = run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2})
        status, out, _ = run(*files, "--json", "--quiet")
        assert status == 1
        assert Diff.model_validate_json(out).cases == diff(*files).cases

    def test_markdown_has_the_answer_the_changes_and_every_case(self, run):
        status, out, _ = run(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2}), "--format", "md")
        assert status == 1
        assert out.startswith("### Face-off: 1 regression beyond 10 %")
        first, folded = out.split("<details>")
        assert first.count("\n| lstm") == 1
        assert folded.count("\n| lstm") == folded.count("\n| rnn") == 3
        assert {line.count("|") for line in out.splitlines() if line.startswith("|")} == {8}

    @pytest.mark.parametrize("text", [*HOSTILE, "a|b", "[x](javascript:1)", "@team see https://example.org", "a\n# b"])
    def test_no_name_becomes_markup(self, text):
        escaped = escape_markdown(text)
        assert "<" not in escaped
        assert "\n" not in escaped
        assert "\u202e" not in escaped
        assert "https://" not in escaped
        assert "@t" not in escaped
        assert len(escaped) <= 1100
        plain = escaped.replace("\\\\", "").replace("\\|", "").replace("\\[", "")
        assert "|" not in plain
        assert "[" not in plain

    def test_hostile_names_stay_within_their_cells(self, run):
        before, after = run_of(1), run_of(2, {(LSTM, "jax:jit"): 1.5})
        name = "jax:<img src=x>|\n[red]x[/red]\x1b[31m"
        for result in (before, after):
            for record in (*result.contenders, *result.records):
                record.contender = record.contender.replace("jax:jit", name)
        after.contenders[2].versions = {name: "<b>"}
        status, out, _ = run(before, after)
        assert status == 1
        assert "\x1b" not in out
        assert name.split("\x1b")[0].replace("\n", " ") in out
        text = to_markdown(diff(before, after))
        assert "<img" not in text
        assert "<b>" not in text
        assert "\x1b" not in text
        rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {8}
