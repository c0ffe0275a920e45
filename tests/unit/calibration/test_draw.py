"""The draw of random cases: what it draws, that each can be made again, and that pieces of a study outlive a stop."""

import json
from collections import Counter

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import OPTIMISERS, LstmSpec, RecurrentSpec, Workload
from faceoff.frameworks.contenders import all_contenders
from faceoff.workloads.situations import EVERYDAY, SITUATIONS
from faceoff.workloads.work import count_work
from tests.calibration.draw import MOST_FLOPS, MOST_STEPS, draw, log_uniform, task_of, within_cap
from tests.calibration.false_alarms import repeat, summarise, taking_part
from tests.calibration.pieces import Pieces, parse_part
from tests.conftest import SLOW_TO_COMPILE

CASES = [draw(7, number) for number in range(400)]


def test_a_case_depends_on_seed_and_number_alone():
    assert draw(7, 123) == CASES[123] != draw(8, 123)
    assert draw(7, 123).generator(1).random() == CASES[123].generator(1).random() != CASES[123].generator(2).random()


def test_families_and_every_switch_are_drawn():
    specs = [case.workloads[0].model for case in CASES]
    assert Counter(spec.kind for spec in specs) == dict.fromkeys(("dense", "residual", "rnn", "lstm"), 100)
    for kind in ("dense", "rnn"):
        assert {spec.activation for spec in specs if spec.kind == kind} == {"relu", "tanh"}
    recurrent = [spec for spec in specs if isinstance(spec, RecurrentSpec)]
    assert {(spec.many_to_many, spec.num_layers) for spec in recurrent} == {(m, n) for m in (0, 1) for n in (1, 2, 3)}
    assert min(spec.sequence_length for spec in recurrent) == 1
    assert max(spec.sequence_length for spec in recurrent) > 500
    pictures = [spec for spec in specs if spec.kind == "residual"]
    assert {spec.height == spec.width for spec in pictures} == {True, False}
    assert {spec.blocks_per_stage for spec in pictures} == {len(spec.stage_widths) for spec in pictures} == {1, 2, 3}
    assert len({(spec.epsilon, spec.momentum) for spec in pictures}) == len(pictures)
    every = [workload for case in CASES for workload in case.workloads]
    assert {workload.optimiser.kind for workload in every} == set(OPTIMISERS)
    assert {workload.dtype for workload in every} == {"float64", "float32", "bfloat16", "float16", "mixed_bfloat16"}
    assert {situation for case in CASES for situation, _ in case.tasks} == set(SITUATIONS) - {"one-example"}
    assert all(case.tasks[0][0] == EVERYDAY for case in CASES)


def test_sizes_are_log_uniform():
    rng = np.random.default_rng(0)
    found = [log_uniform(rng, 1, 512) for _ in range(4000)]
    assert min(found) == 1
    assert max(found) <= 512
    # Nine doublings, each as likely as any other.
    bands = Counter(size.bit_length() for size in found)
    assert all(350 < bands[length] < 550 for length in range(1, 10))


def test_nothing_is_above_the_cap_and_what_was_is_told():
    assert all(within_cap(case.workloads[0]) for case in CASES)
    rejected = [entry for case in CASES for entry in case.rejected]
    assert rejected
    assert all("-b" in entry and float(entry.rpartition(": ")[2]) > 0 for entry in rejected)
    long, wide = Workload(LstmSpec(1, 1, 2, MOST_STEPS + 1), 1), Workload(LstmSpec(512, 512, 2, 100), 64)
    assert not within_cap(long)
    assert not within_cap(wide)
    assert count_work(wide).flops > MOST_FLOPS


def test_a_task_of_a_case_serves_the_model_that_is_built_for_it():
    for case in CASES[:40]:
        for workload in case.workloads:
            for situation, seed in case.tasks[:3]:
                assert task_of(workload, situation, seed).workload == workload.replace(step="training")


def test_contenders_that_compile_slowly_take_part_in_a_third():
    contenders = all_contenders()
    shares = Counter(str(contender) for case in CASES for contender in taking_part(case.generator(1), contenders))
    for contender in map(str, contenders):
        share = shares[contender] / len(CASES)
        assert 0.25 < share < 0.42 if contender in SLOW_TO_COMPILE else share == 1


def comparison(outcome="ok", units=1.5, **more):
    return {"contender": "jax:jit", "dtype": "float32", "situation": "zero", "outcome": outcome, "units": units, **more}


def piece(name, *comparisons):
    common = {"model": "dense-1-2", "rejected": ["dense-9-9-b1: 1.0e+09"], "refused": [], "seconds": 2.0}
    return {"name": name, "comparisons": list(comparisons), **common}


def test_pieces_are_kept_at_once_and_shared_between_processes(tmp_path):
    names = [(f"0/{number}", number) for number in range(20)]
    first, second = Pieces(tmp_path, (1, 2)), Pieces(tmp_path, (2, 2))
    ours, theirs = (dict(pieces.left(names, 1)) for pieces in (first, second))
    assert ours
    assert theirs
    assert sorted({**ours, **theirs}.items()) == sorted(names)
    assert not set(ours) & set(theirs)
    done = next(iter(ours))
    first.add(piece(done))
    assert [found["name"] for found in second.all()] == [done]
    assert done not in dict(Pieces(tmp_path).left(names, 1))
    assert not dict(Pieces(tmp_path).left(names, -1))


def test_a_piece_that_was_cut_off_is_done_again_and_harms_no_other(tmp_path):
    pieces = Pieces(tmp_path)
    pieces.add(piece("0/0"))
    path = tmp_path / "part-1-of-1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"name": "0/1", "comp')
    pieces.add(piece("0/2"))
    assert [found["name"] for found in Pieces(tmp_path).all()] == ["0/0", "0/2"]


def test_pieces_of_other_code_are_refused_unless_asked_for(tmp_path):
    (tmp_path / "part-1-of-1.jsonl").write_text(json.dumps({**piece("0/0"), "code": "0123"}) + "\n")
    with pytest.raises(InputError, match="0123"):
        Pieces(tmp_path)
    mixed = Pieces(tmp_path, mixed=True)
    mixed.add(piece("0/1"))
    assert len(summarise(mixed.all())["code"]) == 2


def test_the_summary_counts_comparisons_alarms_and_largest_units(tmp_path):
    pieces = Pieces(tmp_path)
    pieces.add(piece("0/0", comparison(), comparison(units=0.2), comparison("disagrees", units=None, case="x")))
    pieces.add(piece("0/1", comparison(units=7.0, note="3 flips"), comparison(units=7.0, note="21 flips")))
    found = summarise(pieces.all())
    assert (found["comparisons"], found["models"], found["false_alarms"], found["rejected_above_cap"]) == (5, 2, 1, 2)
    assert found["notes"] == {"N flips": 2}
    assert found["largest_noise_units"] == {"jax:jit": {"float32": 7.0}}
    assert found["comparisons_by_noise_units_up_to"] == {"1": 1, "2": 1, "7": 2}
    assert [alarm["case"] for alarm in found["alarms"]] == ["x"]


@pytest.mark.parametrize("case", ["", "0/0/float16/zero/1", "0/0/float31/zero/1/jax:jit", "0/0/float16/no/1/j:i"])
def test_a_case_that_is_not_one_is_refused(case):
    with pytest.raises(InputError, match="no such case"):
        repeat(case)


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b"])
def test_a_part_that_is_not_one_is_refused(text):
    with pytest.raises(Exception, match="not a part"):
        parse_part(text)
    assert parse_part("2/3") == (2, 3)
