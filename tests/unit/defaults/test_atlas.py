"""The measurements on layers whose truth is known, the effects on plain examples, and the atlas itself."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from faceoff.core.errors import WorkerError
from faceoff.core.spec import LstmSpec
from faceoff.core.weights import seeded_weights
from faceoff.defaults import Atlas, Effect, Finding, print_atlas
from faceoff.defaults.asking import Observed
from faceoff.defaults.atlas import make_row
from faceoff.defaults.effects import RESIDUAL, TRAINING, EffectFinder, array_spread, effect_of_draws, spread_of
from faceoff.defaults.fitting import FitError
from faceoff.defaults.initialisation import canonical_recurrent, find_gates, find_orthogonality
from faceoff.defaults.layers import CONVOLUTION, PRECISION_ON_GPU, PRODUCT, activation_forms, gelu
from faceoff.defaults.run import make_rows
from faceoff.defaults.table import effect_words
from faceoff.defaults.units import unit_effects
from faceoff.reference import ReferenceModel
from tests.unit.reference.steps import lstm_step


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the command runs its arithmetic."""
    with threadpool_limits(1):
        yield


def test_the_order_of_gates_is_found_by_one_step_of_the_reference():
    for order in (("i", "f", "g", "o"), ("f", "o", "i", "g")):
        step = lstm_step(order)
        assert find_gates("lstm", step) == ("", order, "sigmoid")


def test_a_step_that_no_order_explains_is_refused():
    step = lstm_step(("i", "f", "g", "o"))
    with pytest.raises(FitError, match="0 explanations"):
        find_gates("lstm", {**step, "hidden": step["hidden"] + 1e-3})


def test_canonical_weights_are_those_that_were_shuffled():
    weights = seeded_weights(LstmSpec(3, 4, 2, 1), 0)
    order = ("o", "i", "g", "f")
    canonical = canonical_recurrent("lstm", lstm_step(order), order)
    for name, value in canonical.items():
        np.testing.assert_allclose(value, weights[f"layer.0.{name}"], rtol=1e-6, err_msg=name)


def test_orthogonality_tells_the_whole_from_the_gates_and_from_neither():
    rng = np.random.default_rng(0)
    whole = np.linalg.qr(rng.standard_normal((40, 10)))[0]
    each = np.concatenate([np.linalg.qr(rng.standard_normal((10, 10)))[0] for _ in range(4)])
    assert find_orthogonality(whole, 4).words == "orthogonal, all gates together"
    assert find_orthogonality(each, 4).words == "orthogonal, each gate by itself"
    assert find_orthogonality(rng.standard_normal((40, 10)) / 10**0.5, 4) is None


def test_the_two_gelus_lie_farther_apart_than_the_limit_that_tells_them():
    x = np.linspace(-6, 6, 241)
    forms = activation_forms("gelu", x, gelu(x, True))
    apart = [words for words, (values, _) in forms.items() if np.abs(values - gelu(x, True)).max() < 1e-5]
    assert apart == ["tanh approximation"]
    assert np.abs(gelu(x, True) - gelu(x, False)).max() > 1e-4


def test_a_row_agrees_only_when_all_that_was_measured_says_the_same():
    one, two = Finding(words="1"), Finding(words="2")
    refusal, unclear = Finding(words="refuses: no", outcome="unsupported"), Finding(words="?", outcome="disagrees")
    missing = Finding(words="missing", outcome="missing")
    assert make_row("t", "w", {"a": one, "b": one, "c": missing}).agree
    for other in (two, refusal, unclear):
        assert not make_row("t", "w", {"a": one, "b": other}).agree


def atlas(outcome="ok") -> Atlas:
    """Two rows of three frameworks, the last of which ended with `outcome`."""
    findings = {"pytorch": Finding(words="1e-05", numbers={"epsilon": 1e-5}), "jax": Finding(words="[b]1e-06")}
    row = make_row("normalisation", "layer-norm epsilon", findings)
    row.effects = [Effect(measured_on="unit", quantity="output", values={"jax": 1.0}, relative_difference=2e-6)]
    agreeing = make_row("dropout", "scaling", {"pytorch": findings["jax"]})
    return Atlas(
        created="now", seed=0, duration_s=1.0, frameworks={"pytorch": {"torch": "2"}, "jax": {}},
        outcomes={"pytorch": "ok", "jax": outcome}, rows=[row, agreeing],
    )  # fmt: skip


def test_the_atlas_survives_json_and_refuses_what_it_does_not_know():
    assert Atlas.model_validate_json(atlas().model_dump_json()) == atlas()
    with pytest.raises(ValueError, match="surprise"):
        Atlas.model_validate({**json.loads(atlas().model_dump_json()), "surprise": 1})


def test_a_missing_framework_ends_with_3():
    assert atlas().exit_status == 0
    assert atlas("missing").exit_status == 3


def test_a_missing_framework_is_a_column_of_every_row():
    seen = Observed(findings={("dropout", "scaling"): Finding(words="1")})
    error = WorkerError("not installed", outcome="missing", where="jax:jit")
    (row,) = make_rows(["pytorch", "jax"], {"pytorch": seen}, {"jax": error})
    assert row.findings["jax"] == Finding(words="missing", outcome="missing")
    assert row.agree
    (row,) = make_rows(["pytorch", "jax"], {"pytorch": seen}, {"jax": WorkerError("died", outcome="crashed")})
    assert row.findings["jax"].words == "crashed: died"


def test_the_table_shows_findings_as_they_are_and_the_effect(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_atlas(atlas())
    out = capsys.readouterr().out
    for text in ("layer-norm epsilon", "[b]1e-06", "2.0e-06 on output", "1 of 2 defaults differ"):
        assert text in out


@pytest.mark.parametrize(
    ("difference", "text"), [(2e-6, "2.0e-06 on"), (0.0051, "0.51 % on"), (0.126, "13 % on"), (1.263, "126 % on")]
)
def test_an_effect_is_a_share_as_people_write_it(difference, text):
    effect = Effect(quantity="loss", relative_difference=difference, measured_on="here")
    assert effect_words(effect).startswith(text)


def test_spreads_are_relative():
    assert spread_of({"a": 1.0, "b": 3.0}) == 1.0
    assert spread_of({"a": 0.0, "b": 0.0}) == 0.0
    assert array_spread({"a": np.ones(4), "b": np.ones(4)}) == 0.0
    assert array_spread({"a": np.ones(4), "b": np.full(4, 2.0), "c": np.ones(4)}) == pytest.approx(0.5)


def test_chance_is_what_draws_do_beyond_what_all_frameworks_share():
    shared = effect_of_draws("here", "loss", {"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0]})
    assert shared.values == {"a": 2.0, "b": 3.0}
    assert shared.chance == pytest.approx(0, abs=1e-12)
    own = effect_of_draws("here", "loss", {"a": [1.0, 2.0, 3.0], "b": [4.0, 3.0, 2.0]})
    assert own.chance == pytest.approx(1 / 3**0.5 / 2)


def test_the_effect_of_a_constant_is_the_difference_that_the_reference_itself_shows():
    """Momentum of batch norm by the effect finder, against two trainings of the reference made here."""
    seen = {}
    for name, share in (("a", 0.1), ("b", 0.01)):
        seen[name] = Observed(
            findings={("normalisation", "batch-norm momentum"): Finding(words="", numbers={"share": share})}
        )
    finder = EffectFinder(seen, 0)
    outputs, losses = finder.measured("normalisation", "batch-norm momentum")
    task, trained = finder.task(RESIDUAL), {}
    for name, share in (("a", 0.1), ("b", 0.01)):
        model = ReferenceModel(replace(RESIDUAL, momentum=share), seeded_weights(RESIDUAL, 0), TRAINING)
        for batch in task.batches:
            model.train_step(batch)
        trained[name] = np.concatenate([model.forward(batch) for batch in task.test])
    assert outputs.relative_difference == pytest.approx(array_spread(trained))
    assert losses.values == pytest.approx({name: task.loss_on_test(logits) for name, logits in trained.items()})
    assert outputs.relative_difference > 0.1


def test_equal_defaults_have_no_effect():
    seen = {
        name: Observed(findings={("optimiser", "sgd learning rate"): Finding(words="", numbers={"rate": 0.01})})
        for name in ("a", "b")
    }
    assert [
        effect.relative_difference for effect in EffectFinder(seen, 0).measured("optimiser", "sgd learning rate")
    ] == [0, 0]


@pytest.mark.parametrize("word", [PRODUCT, CONVOLUTION])
def test_what_products_of_fewer_bits_are_worth_is_told_of_the_unit(word):
    findings = {
        "pytorch": Finding(words="float32", numbers={"bits": 24}),
        "jax": Finding(words="inputs of about 11 bits", numbers={"bits": 11}),
        "tensorflow": Finding(words="sees no GPU", outcome="unsupported"),
    }
    (effect,) = unit_effects(PRECISION_ON_GPU, word, findings, {}, 0)
    # Two factors, each rounded by up to half a unit of its last place, which is 2**-10 of what leads.
    assert 2**-14 < effect.relative_difference < 2**-10
    assert unit_effects(PRECISION_ON_GPU, word, {"jax": findings["jax"]}, {}, 0) == []
