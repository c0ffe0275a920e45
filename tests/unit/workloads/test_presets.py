"""Which sizes a run has: presets, families, and sweeps over batch size, sequence length and hidden size."""

import dataclasses
from pathlib import Path

import pytest

from faceoff.commands.summary import _grid, _model_names
from faceoff.core.errors import InputError
from faceoff.core.spec import MODEL_KINDS, Contender, DenseSpec, Workload
from faceoff.machine.description import describe_machine
from faceoff.run.identity import asked_for, identify, keywords_of
from faceoff.run.journal import Begin
from faceoff.run.options import make_options
from faceoff.speed.budget import BUDGETS
from faceoff.workloads.presets import PRESETS, choose


def sizes(found):
    return [(s.model.kind, getattr(s.model, "sequence_length", None), s.batch_size) for s in found]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_each_of_its_workloads_once(name):
    names = [Workload(sized.model, sized.batch_size).name for sized in PRESETS[name].sized]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["default", "small", "lecture"])
def test_the_everyday_presets_hold_every_family(name):
    assert {sized.model.kind for sized in PRESETS[name].sized} == set(MODEL_KINDS)


def test_agreement_is_checked_on_more_than_is_timed(tmp_path):
    checked, timed = (make_options(command, out=tmp_path).workloads for command in ("agree", "compare"))
    assert set(timed) < set(checked)
    branches = {
        (w.model.kind, getattr(w.model, "activation", ""), getattr(w.model, "many_to_many", False)) for w in checked
    }
    assert {("dense", "tanh", False), ("dense", "relu", False), ("rnn", "relu", True), ("lstm", "", True)} <= branches
    assert {getattr(w.model, "num_layers", 1) for w in checked if w.model.kind in ("rnn", "lstm")} == {1, 2}


def test_a_workload_is_picked_by_its_name_and_repeated_by_it(tmp_path):
    options = make_options(
        "agree", preset="deepbench", batch_size=[2, 3], workload=["lstm-t25-i512-h512-o10-b3"], out=tmp_path
    )
    (workload,) = options.workloads
    assert (workload.model.kind, workload.model.hidden_size, workload.batch_size) == ("lstm", 512, 3)
    again = options.again(workload, Contender("jax", "jit"), "float64").split()
    assert again[:4] == ["faceoff", "agree", "--preset", "deepbench"]
    assert again[again.index("--batch-size") + 1] == "3"
    assert again[again.index("--workload") + 1] == "lstm-t25-i512-h512-o10-b3"
    command = options.command_line().split()
    assert command[command.index("--workload") + 1] == "lstm-t25-i512-h512-o10-b3"
    assert make_options("agree", **{**keywords_of(asked_for(options)), "out": tmp_path}).workloads == (workload,)
    with pytest.raises(InputError, match=r"workload.*got 'lstm'.*one of"):
        make_options("agree", workload=["lstm"], out=tmp_path)


def test_deepbench_has_the_published_sizes():
    lstm = {(s.model.hidden_size, s.model.sequence_length, s.batch_size) for s in choose("deepbench", ["lstm"])}
    assert {(512, 25, 16), (1024, 25, 128), (4096, 25, 128), (256, 150, 64), (256, 150, 1), (1536, 50, 4)} <= lstm
    assert len(lstm) == 16 + 3 + 3 + 15
    rnn = choose("deepbench", ["rnn"])
    assert len(rnn) == 12
    assert all(s.model.activation == "relu" and s.model.input_size == s.model.hidden_size for s in rnn)


def test_a_sweep_runs_every_combination_and_each_once():
    found = choose("default", ["rnn", "lstm"], [1, 8], [5, 10])
    assert sizes(found) == [(kind, t, n) for kind in ("rnn", "lstm") for t in (5, 10) for n in (1, 8)]
    assert len(choose("default", [], [4], [5, 10], [16, 32])) == 2 + 1 + 4 + 4
    # Six hidden sizes, each in several batch sizes and lengths.
    assert len(choose("deepbench", ["lstm"], [1], [25])) == 6


def test_the_hidden_size_of_a_dense_model_is_that_of_all_its_hidden_layers():
    (dense,) = choose("default", ["dense"], hidden_sizes=[7])
    assert dense.model == DenseSpec((3072, 7, 7, 10))


@pytest.mark.parametrize(
    ("keywords", "what"),
    [
        ({"models": ["dense"], "sequence_lengths": [5]}, "sequence-length.*no recurrent model"),
        ({"models": ["residual"], "hidden_sizes": [5]}, "hidden-size.*no hidden size"),
        ({"sequence_lengths": [0]}, "sequence-length"),
        ({"hidden_sizes": [-1]}, "hidden-size"),
    ],
)
def test_sizes_that_no_chosen_model_has_are_refused(keywords, what):
    with pytest.raises(InputError, match=what):
        choose("default", **keywords)


def test_the_command_that_repeats_a_check_runs_that_one_alone(tmp_path):
    keywords = {"models": ["lstm", "dense"], "sequence_length": (5, 10), "hidden_size": (16,), "batch_size": (2,)}
    options = make_options("bench", contenders=["pytorch:eager"], out=tmp_path, **keywords)
    assert "--batch-size 2 --sequence-length 5,10 --hidden-size 16" in options.command_line()
    assert len(options.workloads) == 3
    for workload in options.workloads:
        program, command, *parts = options.again(workload, Contender("pytorch", "eager"), "float32").split()
        assert (program, command) == ("faceoff", "agree")
        given = dict(zip(parts[::2], parts[1::2], strict=True))
        sizes = {
            name: [int(size) for size in given[f"--{name.replace('_', '-')}"].split(",")]
            for name in ("batch_size", "sequence_length", "hidden_size")
        }
        repeated = make_options(
            "agree", preset=given["--preset"], workload=[given["--workload"]], out=tmp_path, **sizes
        )
        assert repeated.workloads == (workload,)
    resumed = make_options("bench", **{**keywords_of(asked_for(options)), "out": Path(tmp_path)})
    assert resumed.workloads == options.workloads


def test_a_budget_without_an_end_survives_a_journal(tmp_path):
    budget = dataclasses.replace(BUDGETS["thorough"], max_time_s=5)
    options = make_options("bench", contenders=["pytorch:eager"], budget=budget, out=tmp_path)
    kept = Begin(created="", command_line="", identity=identify(options, describe_machine())).model_dump_json()
    asked = Begin.model_validate_json(kept).identity.asked
    assert keywords_of(asked)["budget"] == budget


def test_the_summary_tells_sizes_of_one_family_apart_and_has_a_row_each_where_they_are_many():
    few, many = (choose("default", ["lstm"], [1], lengths) for lengths in ([5], range(1, 9)))
    for found in (few, many):
        workloads = [Workload(s.model, s.batch_size).to_json() for s in found]
        names = _model_names(workloads)
        assert len(set(names.values())) == len(names) == len(found)
        table = _grid(names, {(key, "jax:jit"): "1 ms" for key in names}, "times")
        assert table.row_count == (1 if len(found) == 1 else len(found))
    assert _model_names([Workload(few[0].model, 1).to_json()]) == {f"{few[0].model.label} b1": "lstm b1"}


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"models": "lstm", "batch_size": 8}, {"models": ("lstm",), "batch_sizes": (8,)}),
        ({"models": None, "steps": None, "contenders": ["jax"]}, {"models": (), "steps": ("inference", "training")}),
        ({"budget": 60, "contenders": "jax:jit"}, {"budget_name": "60"}),
    ],
)
def test_one_alone_and_nothing_are_taken_from_python_too(tmp_path, keywords, expected):
    options = make_options("bench", out=tmp_path, **keywords)
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    "keywords",
    [
        {"models": 3},
        {"batch_size": "8"},
        {"batch_size": [1.5]},
        {"contenders": [("jax", "jit")]},
        {"seed": "1"},
        {"seed": 1.5},
        {"threads": 1.5},
        {"timeout_s": "3"},
        {"budget": None},
        {"budget": "inf"},
        {"device": None},
        {"baseline": "jax:jit", "contenders": ["pytorch:eager"]},
    ],
    ids=str,
)
def test_another_type_is_bad_input_and_makes_no_folder(tmp_path, keywords):
    with pytest.raises(InputError):
        make_options("bench", out=tmp_path / "out", **keywords)
    assert not (tmp_path / "out").exists()
