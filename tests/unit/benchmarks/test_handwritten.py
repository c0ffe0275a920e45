"""The comparison with hand-written code: what it says, how it ends, and that it notices another computation."""

import json

import numpy as np
import pytest

from faceoff.frameworks.installations import Installation
from tests.benchmarks.handwritten import __main__ as benchmark
from tests.benchmarks.handwritten import one_contender

ROW = {"workload": "dense", "step": "inference", "contender_s": 1e-3, "hand_s": 1e-3, "interval": [1.0, 1.2]}
NO_DEVICE = {"outcome": "unsupported", "reason": "sees no GPU", "device_lost": False, "traceback": ""}


@pytest.fixture
def told(monkeypatch):
    """What each framework's processes answer, by its name; nothing means that it is not installed."""
    found: dict = {}

    def installation(framework, configuration):
        return Installation("python", {}, "" if framework.name in found else "no module", "install it")

    monkeypatch.setattr(benchmark, "find_installation", installation)
    monkeypatch.setattr(benchmark, "answers", lambda contender, *_: found[contender.framework])
    return found


@pytest.mark.parametrize(
    ("ratio", "more", "status"),
    [(1.0, [], 0), (1.2, [], 1), (1.0, [{"workload": "rnn", **NO_DEVICE}], 3), (1.2, [{**ROW, **NO_DEVICE}], 1)],
)
def test_status_is_1_above_the_limit_and_else_3_where_something_could_not_be_run(told, ratio, more, status):
    told["jax"] = [{"settings": {}}, {**ROW, "ratio": ratio}, *more]
    assert benchmark.main(["jax"]) == status


def test_what_cannot_start_is_one_line_a_framework_and_the_others_are_run(told, capsys, tmp_path):
    told["pytorch"], told["jax"] = [NO_DEVICE], [{"settings": {"versions": {}}}, {**ROW, "ratio": 1.0}]
    assert benchmark.main(["--json", str(tmp_path / "found.json")]) == 3
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["pytorch", "unsupported:", "sees", "no", "GPU"]
    assert second.split() == ["tensorflow", "missing:", "no", "module;", "install", "it"]
    assert third.startswith("jax:jit")
    assert third.endswith("1.000 [1.000, 1.200]")
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept["rows"] == [{"contender": "jax:jit", **ROW, "ratio": 1.0}]
    assert kept["settings"] == {"jax:jit": {"versions": {}}}
    assert [entry["outcome"] for entry in kept["not_run"]] == ["unsupported", "missing"]


@pytest.mark.parametrize(
    "arguments", [["--device", "auto"], ["--device", "gpu:x"], ["jax:cudnn"], ["--workload", "no"], ["--models", "no"]]
)
def test_what_is_not_known_is_bad_usage(told, arguments, capsys):
    assert benchmark.main(arguments) == 2
    assert "expected" in capsys.readouterr().err


def test_a_hand_written_model_that_computes_something_else_is_found():
    def side(factor):
        return lambda batch: {"logits": batch * factor}, [np.ones((2, 3), "float32")]

    def judge(factor, dtype):
        one_contender.check_values("inference", [side(1.0), side(factor)], lambda value: value, dtype)

    judge(1 + 1e-6, "float32")
    judge(1.01, "bfloat16")
    for factor in (1.01, np.nan):
        with pytest.raises(one_contender.DifferenceError, match="something else"):
            judge(factor, "float32")


def test_the_norm_of_gradients_tells_one_that_is_missing():
    def side(last):
        return lambda batch: (np.float32(1), {"w": np.ones(3)}, {"x": np.full(2, last)}), [None]

    with pytest.raises(one_contender.DifferenceError):
        one_contender.check_values("gradients", [side(1.0), side(0.0)], lambda value: value, "float32")
