"""Effects on the unit itself, where the reference has no such knob: one layer on real digits, once, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from faceoff.core.weights import seeded_weights
from faceoff.defaults.atlas import Effect, Finding
from faceoff.defaults.effects import DENSE, array_spread, spread_of
from faceoff.defaults.layers import (
    ACTIVATION,
    LOSS,
    NORMALISATION,
    PADDING,
    PRECISION,
    PRECISION_ON_GPU,
    PRODUCT,
    correlate,
    gelu,
)
from faceoff.reference.layers import affine, softmax_cross_entropy
from faceoff.workloads.data import load_digits

Findings = Mapping[str, Finding]


def hidden_values(seed: int) -> np.ndarray:
    """What the first dense layer makes of the test digits, before its activation, `(examples, 32)`."""
    weights, digits = seeded_weights(DENSE, seed), load_digits(seed)
    images = digits.test_x.reshape(len(digits.test_x), -1)
    return np.asarray(affine(images, weights["layer.0.weight"], weights["layer.0.bias"]))


def activate_as(word: str, finding: Finding, x: np.ndarray) -> np.ndarray | None:
    """The activation of `word` as found; None where it has no constant that could differ."""
    kind = word.split()[0]
    if kind == "gelu":
        return gelu(x, approximate=finding.words.startswith("tanh"))
    if kind == "leaky_relu":
        return np.where(x > 0, x, finding.numbers["slope"] * x)
    if kind == "elu":
        return np.where(x > 0, x, finding.numbers["alpha"] * np.expm1(np.minimum(x, 0)))
    if kind == "hard_sigmoid":
        return np.clip(finding.numbers["slope"] * x + 0.5, 0, 1)
    return None


def unit_effects(topic: str, word: str, findings: Findings, padding_by_number: Findings, seed: int) -> list[Effect]:
    """The effect of a word on the output of its unit.

    Args:
        topic, word: of the row.
        findings: of the row, by framework.
        padding_by_number: findings of the padding given as a number, for a framework that refuses `same`.
        seed: of weights and data.
    """
    found = {name: finding for name, finding in findings.items() if finding.outcome == "ok"}
    outputs: dict[str, np.ndarray] = {}
    where = ""
    if topic == ACTIVATION:
        where, x = "the unit, on the first layer of dense on digits", hidden_values(seed)
        made = {name: activate_as(word, finding, x) for name, finding in found.items()}
        outputs = {name: value for name, value in made.items() if value is not None}
    elif (topic, word) == (NORMALISATION, "layer-norm epsilon"):
        where, x = "the unit, on the first layer of dense on digits", hidden_values(seed)
        centred, variance = x - x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        outputs = {name: centred / np.sqrt(variance + f.numbers["epsilon"]) for name, f in found.items()}
    elif topic == PADDING and "3x3 on even" in word:
        where = "the unit, 3x3 on digits, zeros by number where `same` is refused"
        outputs = _padded(found, padding_by_number, seed)
    elif (topic, word) == (PRECISION, "array made from float64"):
        where, x = "the unit, normal numbers", np.random.default_rng(seed).standard_normal(10_000)
        outputs = {name: x.astype(f"float{f.numbers['bits']:.0f}").astype(np.float64) for name, f in found.items()}
    elif topic == PRECISION_ON_GPU:
        where = f"the unit, {'dense 64-32' if word == PRODUCT else '3x3'} on digits, inputs and weights of so many bits"
        outputs = {name: _rounded_product(word, int(finding.numbers["bits"]), seed) for name, finding in found.items()}
    elif (topic, word) == (LOSS, "cross-entropy takes"):
        return _losses(found, seed)
    if len(outputs) < 2:
        return []
    return [Effect(measured_on=where, quantity="output", relative_difference=array_spread(outputs))]


def _rounded_product(word: str, bits: int, seed: int) -> np.ndarray:
    digits = load_digits(seed)

    def rounded(values: np.ndarray) -> np.ndarray:
        mantissa, exponent = np.frexp(values)
        return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits))

    if word == PRODUCT:
        images = digits.test_x.reshape(len(digits.test_x), -1)
        return np.asarray(rounded(images) @ rounded(seeded_weights(DENSE, seed)["layer.0.weight"]).T)
    kernel = rounded(np.random.default_rng(seed).standard_normal((3, 3)))
    return np.stack([correlate(rounded(image), kernel, 1, 1, 1) for image in digits.test_x[:100, :, :, 0]])


def _padded(found: Findings, by_number: Findings, seed: int) -> dict[str, np.ndarray]:
    images = load_digits(seed).test_x[:100, :, :, 0]
    kernel = np.random.default_rng(seed).standard_normal((3, 3))
    chosen = {name: f for name, f in {**by_number, **found}.items() if f.outcome == "ok"}
    return {
        name: np.stack(
            [correlate(image, kernel, int(f.numbers["before"]), int(f.numbers["after"]), 2) for image in images]
        )
        for name, f in chosen.items()
    }


def _losses(found: Findings, seed: int) -> list[Effect]:
    digits = load_digits(seed)
    logits = hidden_values(seed)[:, :10]
    clipped = np.clip(logits, 1e-7, 1 - 1e-7)
    readings = {
        "logits": float(softmax_cross_entropy(logits, digits.test_y)[0]),
        "probabilities": float(softmax_cross_entropy(np.log(clipped), digits.test_y)[0]),
    }
    values = {name: readings[finding.words] for name, finding in found.items() if finding.words in readings}
    if len(values) < 2:
        return []
    where, quantity = "the unit, logits handed over as they are", "mean loss"
    return [Effect(measured_on=where, quantity=quantity, values=values, relative_difference=spread_of(values))]
