"""The mode `tuned` setting by setting: names, what they have a part in, and what is told of them."""

import random

import pytest

from faceoff.commands.summary import print_summary
from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender, DenseSpec, RnnSpec, Workload
from faceoff.core.tuning import BACKWARD, TUNED, does, is_tuned, kind_of, left_out, without
from faceoff.frameworks.contenders import settings_in_force
from faceoff.frameworks.manifest import ALLOCATOR
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.environment import worker_environment
from faceoff.results.records import Result, TunedSetting
from faceoff.run.engine import Engine
from faceoff.run.options import make_options
from faceoff.run.progress import Reporter
from faceoff.run.starting import make_pool
from faceoff.speed.measure import record_setting
from tests.unit.report.pages import page_of
from tests.unit.results import samples

RNN = Workload(RnnSpec(3, 6, 4, 5), 4)
WHOLE = Contender("jax", TUNED)


def test_a_mode_says_what_it_leaves_out():
    mode = without("allocator")
    assert (left_out(mode), is_tuned(mode), kind_of(mode)) == ("allocator", True, TUNED)
    assert (left_out(TUNED), is_tuned(TUNED), kind_of(TUNED)) == ("", True, TUNED)
    assert (left_out("jit"), is_tuned("jit"), kind_of("jit")) == ("", False, "jit")
    assert [does(m, "allocator") for m in (TUNED, mode, without(BACKWARD), "jit")] == [True, False, True, False]


def names(contender, workload):
    return {setting.name for setting in settings_in_force(contender, workload)}


def test_a_setting_is_named_where_it_changes_anything():
    training = RNN.replace(step="training")
    assert names(WHOLE, training) == {"allocator", BACKWARD}
    assert names(WHOLE, RNN.replace(step="inference")) == {"allocator"}
    assert names(WHOLE, training.replace(model=DenseSpec((4, 3)))) == {"allocator"}
    assert names(Contender("jax", without(BACKWARD)), training) == {"allocator"}
    assert names(Contender("jax", "jit"), training) == set()
    on_gpu = training.replace(device="gpu")
    assert BACKWARD in names(Contender("pytorch", TUNED), training)
    assert names(Contender("pytorch", TUNED), on_gpu) == {"allocator"}


def test_mkl_is_told_of_avx2_only_where_it_would_not_see_it(monkeypatch):
    for amd in (True, False):
        monkeypatch.setattr("faceoff.frameworks.manifest.is_amd_with_avx2", lambda amd=amd: amd)
        assert ("mkl-avx2" in {setting.name for setting in FRAMEWORKS["pytorch"].tuned_settings()}) is amd


def timed(outcome="ok"):
    """The mode tuned and that mode without its allocator, as they were timed."""
    rng, found = random.Random(3), samples.empty()
    other = f"jax:{without('allocator')}"
    found.cases = [samples.case(str(WHOLE), RNN, 0.01, rng), samples.case(other, RNN, 0.012, rng)]
    if outcome == "ok":
        found.comparisons = [samples.comparison(other, str(WHOLE), RNN, 1.2)]
    else:
        found.cases[1].outcome, found.cases[1].reason, found.cases[1].speed = outcome, "it ended", None
    return found


def test_a_setting_brings_what_the_mode_without_it_takes_more():
    record = record_setting(timed(), ALLOCATOR, WHOLE, RNN)
    assert (record.outcome, record.contender, record.setting) == ("ok", "jax:tuned", "allocator")
    assert record.comparison is not None
    assert record.comparison.ratio == pytest.approx(1.2)


def test_a_setting_that_could_not_be_left_out_says_why():
    record = record_setting(timed("crashed"), ALLOCATOR, WHOLE, RNN)
    assert (record.outcome, record.comparison) == ("crashed", None)
    assert record.reason == "jax:tuned-without-allocator: it ended"
    assert Result(**{**samples.empty().model_dump(), "tuned_settings": [record]}).exit_status == 3


def test_a_mode_that_could_not_start_is_not_asked_for_its_settings(tmp_path):
    options = make_options("bench", contenders=["jax:tuned"], out=tmp_path, quiet=True)
    result = samples.empty()
    with make_pool(options) as pool, Reporter(1.0, quiet=True) as reporter:
        pool.failures[WHOLE] = WorkerError("it is not installed", outcome="missing")
        Engine(options, pool, reporter, result).weigh_settings("jax")
        assert pool.process_ids == []
    assert result.tuned_settings == []


def tuned_result() -> Result:
    """A run with a mode `tuned`, one of whose settings has no time."""
    rng, result = random.Random(5), samples.empty()
    result.contenders = [samples.contender(name) for name in ("jax:jit", "jax:tuned")]
    result.cases = [samples.case("jax:jit", RNN, 0.012, rng), samples.case("jax:tuned", RNN, 0.01, rng)]
    result.cases[1].ledger["tuned"] = {"allocator": ALLOCATOR.what}
    result.comparisons = [samples.comparison("jax:jit", "jax:tuned", RNN, 1.2)]
    result.tuned = [samples.comparison("jax:tuned", "jax:jit", RNN, 0.83)]
    result.tuned_settings = [record_setting(timed(), ALLOCATOR, WHOLE, RNN)]
    lost = TunedSetting(
        workload=RNN.to_json(), contender="jax:tuned", setting="other", what="something", outcome="crashed"
    )
    lost.reason = "it ended"
    result.tuned_settings.append(lost)
    return result


def test_the_page_tells_what_each_setting_brings_and_so_does_the_ledger():
    page = page_of(tuned_result())
    told = next(item.text for item in page.all("li") if "huge pages" in item.text)
    assert "without it 1.20 [1.16, 1.24] times as long (it pays)" in " ".join(told.split())
    assert any("what it brings is not known: it ended" in item.text for item in page.all("li"))
    rows = [row for table in page.all("table", "ledger") for row in table.rows()]
    (row,) = [row for row in rows if row and "tuned.allocator" in row[0]]
    assert any("1.20 [1.16, 1.24]" in cell for cell in row)


def test_the_summary_tells_it_too(capsys, tmp_path):
    print_summary(tuned_result(), tmp_path / "result.json", tmp_path / "page.html")
    printed = capsys.readouterr().out
    assert "without each setting over tuned" in printed
    assert "0.830 [0.805, 0.855]" in printed
    assert "allocator 1.20 [1.16, 1.24] it pays" in printed
    assert "other crashed" in printed


def test_convolutions_in_graphs_are_asked_for_on_a_gpu_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_user")

    def flags(mode: str, device: str) -> str | None:
        return worker_environment(Contender("jax", mode), 1, tmp_path, device=device).get("XLA_FLAGS")

    assert flags(TUNED, "gpu") == "--xla_gpu_enable_command_buffer=+CONVOLUTION"
    assert flags("jit", "gpu") is flags(TUNED, "cpu") is flags(without("convolutions-in-graphs"), "gpu") is None
