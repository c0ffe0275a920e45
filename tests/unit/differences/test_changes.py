"""What changed between two result files: found, judged against its interval, refused where the files are unlike."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from faceoff import diff
from faceoff.core.errors import InputError
from faceoff.differences.records import Diff
from faceoff.differences.text import escape_markdown, to_markdown
from faceoff.results.file import save
from faceoff.results.records import NoiseFloor
from tests.unit.differences.samples import LSTM, RNN, agreement, find, run_of
from tests.unit.results.hostile_samples import HOSTILE
from tests.unit.results.samples import workload


class TestSpeed:
    def test_a_file_against_itself_has_changed_in_nothing(self, run_diff):
        result = run_of(1)
        found = diff(result, result)
        assert found.exit_status == 0
        assert {c.ratio for c in found.cases} == {1.0}
        assert found.median_ratio == 1.0
        assert [found.outcomes, found.noise, found.settings, found.unlike, found.not_compared] == [[]] * 5
        status, out, _ = run_diff(result, result)
        assert status == 0
        assert "No regression beyond 10 %" in out

    def test_two_runs_of_the_same_have_no_regression_whatever_their_passes(self):
        for seed in range(10):
            found = diff(run_of(seed, passes=12), run_of(100 + seed, passes=15))
            assert found.exit_status == 0
            assert not any(c.verdict == "slower" for c in found.cases)

    def test_a_planted_slowdown_is_a_regression_and_named(self, run_diff):
        status, out, _ = run_diff(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2}))
        assert status == 1
        assert out.startswith("1 regression beyond 10 %")
        assert out.splitlines()[1].startswith(f"  {workload(LSTM).name}, pytorch:eager: 1.")
        assert out.count("REGRESSION") == 1

    def test_what_got_faster_is_no_regression(self):
        found = diff(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 0.7}))
        assert found.exit_status == 0
        assert [c.contender for c in found.cases if c.verdict == "faster"] == ["pytorch:eager"]

    @pytest.mark.parametrize(("threshold", "status"), [(0, 1), (10, 1), (15, 1), (25, 0), (100, 0)])
    def test_the_threshold_says_what_is_a_regression(self, run_diff, threshold, status):
        files = run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2})
        assert run_diff(*files, "--threshold", str(threshold), "--quiet") == (status, "", "")
        slow = [c for c in diff(*files, threshold=threshold).cases if c.verdict == "slower"]
        assert "pytorch:eager" in [c.contender for c in slow]

    @pytest.mark.parametrize("threshold", [-1, math.nan, math.inf, True])
    def test_a_threshold_that_is_no_percentage_is_refused(self, threshold):
        with pytest.raises(InputError, match="threshold: out of range"):
            diff(run_of(1), run_of(1), threshold=threshold)

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


class TestOutcomes:
    def test_what_no_longer_agrees_is_a_regression(self, run_diff):
        after = run_of(2)
        find(after, RNN, "jax:jit").outcome = "disagrees"
        status, out, _ = run_diff(run_of(1), after)
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

    def test_noise_units_that_more_than_doubled_or_halved_are_listed_and_not_failed(self, run_diff):
        before, after = run_of(1), run_of(2)
        after.agreements[0] = agreement("pytorch:eager", RNN, units=1.5)
        after.agreements[1] = agreement("pytorch:compile", RNN, units=0.3)
        after.agreements[2] = agreement("jax:jit", RNN, units=1.3)
        found = diff(before, after)
        assert [(c.contender, c.before, c.after) for c in found.noise] == [
            ("pytorch:eager", 0.7, 1.5),
            ("pytorch:compile", 0.7, 0.3),
        ]
        status, out, _ = run_diff(before, after)
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


class TestFormats:
    def test_json_is_the_typed_result(self, run_diff):
        files = run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2})
        status, out, _ = run_diff(*files, "--json", "--quiet")
        assert status == 1
        assert Diff.model_validate_json(out).cases == diff(*files).cases

    def test_markdown_has_the_answer_the_changes_and_every_case(self, run_diff):
        status, out, _ = run_diff(run_of(1), run_of(2, {(LSTM, "pytorch:eager"): 1.2}), "--format", "md")
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

    def test_a_locale_that_cannot_write_a_microsecond_loses_no_answer(self, tmp_path):
        save(run_of(1, {(LSTM, "pytorch:eager"): 1e-3}), tmp_path / "a.json")
        command = [sys.executable, "-m", "faceoff", "diff", "a.json", "a.json"]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert run.returncode == 0, run.stderr
        assert "\\xb5s" in run.stdout
        assert "after:  a.json" in run.stdout

    def test_hostile_names_stay_within_their_cells(self, run_diff):
        before, after = run_of(1), run_of(2, {(LSTM, "jax:jit"): 1.5})
        name = "jax:<img src=x>|\n[red]x[/red]\x1b[31m"
        for result in (before, after):
            for record in (*result.contenders, *result.records):
                record.contender = record.contender.replace("jax:jit", name)
        after.contenders[2].versions = {name: "<b>"}
        status, out, _ = run_diff(before, after)
        assert status == 1
        assert "\x1b" not in out
        assert name.split("\x1b")[0].replace("\n", " ") in out
        text = to_markdown(diff(before, after))
        assert "<img" not in text
        assert "<b>" not in text
        assert "\x1b" not in text
        rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {8}
