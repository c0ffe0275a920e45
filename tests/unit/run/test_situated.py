"""Which situations a run checks, how a finding names its own, and how it is shown."""

from types import SimpleNamespace

import pytest

from faceoff.agreement.check import name_precision_findings
from faceoff.agreement.findings import disagreement_message
from faceoff.commands.summary import _agreement_lines
from faceoff.core.errors import InputError
from faceoff.core.spec import OPTIMISERS, Contender, Workload
from faceoff.differences.sides import Side
from faceoff.report import overview, sections
from faceoff.report.answer import problems
from faceoff.results.agreements import Agreement, Quantity
from faceoff.run.identity import asked_for, keywords_of
from faceoff.run.options import make_options
from faceoff.workloads.presets import PRESETS, Sized
from faceoff.workloads.situations import EVERYDAY, SITUATIONS, SMALL_RATE, by_default
from tests.unit.results.samples import empty

JAX = Contender("jax", "jit")


def options(tmp_path, command="agree", **keywords):
    return make_options(command, contenders=["jax:jit"], out=tmp_path, **keywords)


def by_kind(chosen):
    return {item.model.label: item for item in chosen.workloads if item in chosen.stressed}


def test_coverage_runs_every_optimiser_and_stresses_small_models_of_every_family_at_one_rate(tmp_path):
    sized = PRESETS["coverage"].sized
    assert {item.optimiser.kind for item in sized} == set(OPTIMISERS)
    stressed = [item for item in sized if item.stressed]
    assert {item.model.kind for item in stressed} == {"dense", "residual", "rnn", "lstm"}
    assert {item.optimiser.learning_rate for item in stressed} == {SMALL_RATE}
    assert 1 in {item.batch_size for item in stressed}
    chosen = options(tmp_path)
    assert len(chosen.workloads) == len(sized)
    # One build serves them all.
    for workload in chosen.stressed:
        for name in chosen.situations_of(workload, "float64"):
            assert SITUATIONS[name].task(workload, 0).workload == workload


def test_everyday_models_other_presets_and_other_commands_have_the_everyday_situation_alone(tmp_path):
    chosen = options(tmp_path)
    wide = next(workload for workload in chosen.workloads if workload not in chosen.stressed)
    assert chosen.situations_of(wide, "float64") == (EVERYDAY,)
    for other in (options(tmp_path, preset="small"), options(tmp_path, "bench", preset="coverage")):
        assert all(other.situations_of(workload, "float64") == (EVERYDAY,) for workload in other.workloads)


def test_precision_is_looked_at_in_fewer_situations_than_meaning():
    model = PRESETS["coverage"].sized[-1].model
    meaning, precision = by_default(model, "float64"), by_default(model, "float32")
    assert meaning[0] == precision[0] == EVERYDAY
    assert set(precision) < set(meaning)
    assert "large" in precision
    assert "one-example" not in meaning


def test_who_has_no_float64_meets_the_situations_of_meaning_in_the_widest_that_it_has(tmp_path):
    chosen = options(tmp_path)
    (workload, *_) = chosen.stressed
    assert chosen.situations_of(workload, "float32", "float32") == chosen.situations_of(workload, "float64")
    assert chosen.situations_of(workload, "bfloat16", "float32") == chosen.situations_of(workload, "bfloat16")


def test_situations_that_are_asked_for_replace_the_default_and_are_repeated_by_the_command(tmp_path):
    chosen = options(tmp_path, preset="small", situation=["zero", "at-zero"], optimiser="adam")
    kinds = {workload.model.kind: workload for workload in chosen.workloads}
    assert chosen.situations_of(kinds["lstm"], "float64") == ("zero",)
    assert chosen.situations_of(kinds["residual"], "float32") == ("zero", "at-zero")
    assert "--situation zero,at-zero" in chosen.command_line()
    assert make_options("agree", out=tmp_path, **keywords_of(asked_for(chosen))) == chosen
    again = chosen.again(kinds["lstm"], JAX, "float64", "zero")
    assert again.endswith("--situation zero")
    assert "--optimiser adam" in again


def test_a_model_without_the_situation_is_left_out_and_none_at_all_is_an_error(tmp_path):
    chosen = options(tmp_path, preset="small", situation=["at-zero"])
    assert [workload.model.kind for workload in chosen.workloads] == ["residual"]
    with pytest.raises(InputError, match="no model for it"):
        options(tmp_path, preset="small", models=["lstm"], situation=["at-zero"])
    with pytest.raises(InputError, match="unknown situation"):
        options(tmp_path, situation=["calm"])


def test_the_command_of_a_default_check_names_its_situation_where_there_are_several(tmp_path):
    chosen = options(tmp_path)
    narrow = next(iter(chosen.stressed))
    wide = next(workload for workload in chosen.workloads if workload not in chosen.stressed)
    assert chosen.again(narrow, JAX, "float64").endswith("--situation everyday")
    assert "--situation" not in chosen.again(wide, JAX, "float64")
    assert f"--optimiser {narrow.optimiser.kind}" in chosen.again(narrow, JAX, "float64", "large")


def test_an_optimiser_that_is_asked_for_keeps_the_rate_and_adam_gives_way_in_narrow_dtypes(tmp_path):
    rates = {workload.optimiser for workload in options(tmp_path, optimiser="sgd").stressed}
    assert {(rule.kind, rule.learning_rate) for rule in rates} == {("sgd", SMALL_RATE)}
    kinds = {workload.optimiser.kind for workload in options(tmp_path, dtype=["float64", "float16"]).workloads}
    assert kinds == {"sgd", "momentum"}


def check(situation=EVERYDAY, outcome="ok", units=1.0, name="meaning", dtype="float64"):
    workload = PRESETS["coverage"].sized[-1]
    quantity = Quantity(
        name="loss", agrees=outcome == "ok", error=1e-3, noise_units=units, limit=8.0, worst_index=[], got=1.0,
        reference=2.0,
    )  # fmt: skip
    made = Workload(workload.model, workload.batch_size, dtype, step="training")
    found = Agreement(
        workload=made.to_json(), contender=str(JAX), check=name, situation=situation, outcome=outcome,
        quantities=[quantity],
    )  # fmt: skip
    found.message = disagreement_message(found) if outcome == "disagrees" else ""
    return found


CHECKS = [check(), check("zero", units=3.0), check("large", "disagrees", 4e5), check("padded", units=0.5)]


def test_the_summary_has_a_line_for_everyday_one_for_each_finding_and_one_for_the_rest():
    assert _agreement_lines(CHECKS) == [
        "float64 agrees (1.0 units)",
        "float64 DISAGREES (large)",
        "2 other situations agree (3.0 units)",
    ]
    assert _agreement_lines([check("zero", units=3.0)]) == ["zero agrees (3.0 units)"]


def test_the_message_names_the_situation():
    assert "(float64, cpu, situation large)" in CHECKS[2].message
    assert "situation" not in check(outcome="disagrees", units=9.0).message


def test_the_page_shows_the_situation_that_is_farthest_off_and_the_details_of_all():
    result = empty(agreements=CHECKS)
    ((name, cells),) = [row for row in sections.agreement_matrix(result, "r").rows if row[0] == str(JAX)]
    assert name == str(JAX)
    assert [cell.figure for cell in cells] == ["1.0", "400,000 (large)"]
    (row,) = overview.agreement_overview(result)
    assert "(large)" in "".join(cell.text for cell in row.cells)
    assert any("meaning in the situation large" in place for problem in problems(result) for place in problem.places)
    assert sum(len(checks) for _, checks in sections.agreement_details(result, "r")) == len(CHECKS)


def test_one_situation_is_not_cleared_of_meaning_by_another():
    found = [check(), check("large", "disagrees", 9.0), check("large", "disagrees", 9.0, "precision", "float32")]
    name_precision_findings(found)
    assert "not of meaning" not in found[2].message
    found[1] = check("large")
    name_precision_findings(found)
    assert "not of meaning" in found[2].message


def test_a_comparison_of_results_keeps_situations_apart():
    side = SimpleNamespace(_workload=lambda data: SimpleNamespace(name="w"))
    assert len({Side._key(side, agreement) for agreement in CHECKS}) == len(CHECKS)


def test_a_sized_model_is_picked_by_its_name_whatever_its_optimiser():
    assert len({Sized(item.model, item.batch_size).name for item in PRESETS["coverage"].sized}) == 10
