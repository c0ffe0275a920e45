"""What a default is worth: the float64 reference, or the unit itself, with only this default changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from faceoff.core.spec import DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec
from faceoff.core.weights import Batch, Weights, is_statistic, seeded_weights, weight_shapes
from faceoff.defaults.asking import Asker, Observed
from faceoff.defaults.atlas import Effect
from faceoff.defaults.initialisation import RECURRENT, ask_recurrent, canonical_recurrent
from faceoff.defaults.optimisers import RULES, Rule, State
from faceoff.reference import ReferenceModel
from faceoff.reference.layers import softmax_cross_entropy
from faceoff.workloads.data import held_out_batches, load_digits, training_batches

STEPS, BATCH_SIZE, REPETITIONS, TEST_BATCHES = 20, 50, 5, 8
DENSE = DenseSpec((64, 32, 10))
RESIDUAL = ResidualSpec(8, 8, 1, (8, 16), 1)
RNN = RnnSpec(8, 32, 10, 8)
LSTM = LstmSpec(8, 32, 10, 8)
TRAINING = Optimiser("momentum", learning_rate=0.05)


@dataclass(frozen=True)
class Task:
    """A model, its batches of handwritten digits, and batches to test on."""

    spec: ModelSpec
    batches: list[Batch]
    test: list[Batch]

    @staticmethod
    def of(spec: ModelSpec, seed: int) -> Task:
        """The task of `spec` with `STEPS` batches."""
        digits = load_digits(seed)
        return Task(
            spec,
            training_batches(spec, digits, BATCH_SIZE, STEPS, seed),
            held_out_batches(spec, digits, BATCH_SIZE, TEST_BATCHES),
        )

    @property
    def name(self) -> str:
        return f"float64 reference, {self.spec.kind} on digits"

    def logits(self, weights: Weights, spec: ModelSpec | None = None) -> np.ndarray:
        """Logits on the test examples, in inference."""
        model = ReferenceModel(spec or self.spec, weights)
        return np.concatenate([model.forward(batch) for batch in self.test])

    def loss_on_test(self, logits: np.ndarray) -> float:
        """Mean cross-entropy of `logits` on the test examples."""
        return float(softmax_cross_entropy(logits, np.concatenate([batch.targets for batch in self.test]))[0])

    def train(self, weights: Weights, spec: ModelSpec | None = None) -> Weights:
        """Weights after `STEPS` steps of momentum."""
        model = ReferenceModel(spec or self.spec, weights, TRAINING)
        for batch in self.batches:
            model.train_step(batch)
        return model.weights()

    def train_by(self, rule: Rule, constants: Mapping[str, float], rates: np.ndarray, weights: Weights) -> Weights:
        """Weights after `STEPS` steps of an update rule over the reference's gradients."""
        states: dict[str, State] = {name: {} for name in weights if not is_statistic(name)}
        now = dict(weights)
        for step, (batch, rate) in enumerate(zip(self.batches, rates, strict=True), 1):
            gradients = ReferenceModel(self.spec, now).gradients(batch)["weights"]
            for name, state in states.items():
                now[name] = rule(dict(constants), state, now[name], gradients[name], float(rate), step)
        return now


def collect_draws(asker: Asker, order: tuple[str, ...] | None) -> None:
    """Draws the weights of the small models from the framework's own default layers, `REPETITIONS` times each.

    Args:
        asker: of the framework; its observations gain the draws, canonical.
        order: of the LSTM's gates as measured; None leaves the LSTM out.
    """
    draws: dict[str, list[Weights]] = {"dense": [], "residual": [], "rnn": [], "lstm": []}
    for repetition in range(REPETITIONS):
        seed = asker.seed + 1000 * (repetition + 1)
        dense: Weights = {}
        for index in range(DENSE.num_layers):
            inputs, outputs = DENSE.layer_sizes[index : index + 2]
            found = asker.ask("dense", inputs=inputs, outputs=outputs, seed=seed + index)
            dense[f"layer.{index}.weight"], dense[f"layer.{index}.bias"] = found["kernel"], found["bias"]
        residual: Weights = {}
        for index, (name, shape) in enumerate(weight_shapes(RESIDUAL).items()):
            if len(shape) == 4:
                sizes = {"inputs": shape[3], "outputs": shape[0], "kernel_size": shape[1]}
                residual[name] = asker.ask("convolution", seed=seed + index, **sizes)["kernel"]
        draws["dense"].append(dense)
        draws["residual"].append(residual)
        for spec, gates in ((RNN, ("h",)), (LSTM, order)):
            if gates:
                found = ask_recurrent(asker, spec.kind, spec.input_size, spec.hidden_size, seed)
                canonical = canonical_recurrent(spec.kind, found, gates)
                draws[spec.kind].append({f"layer.0.{name}": value for name, value in canonical.items()})
    asker.observed.draws = {
        kind: [{name: value.astype(np.float64) for name, value in weights.items()} for weights in found]
        for kind, found in draws.items()
        if found
    }


def spread_of(values: Mapping[str, float]) -> float:
    """Largest minus smallest value, over the mean of their sizes."""
    numbers = np.array(list(values.values()))
    size = float(np.mean(np.abs(numbers)))
    return float(np.ptp(numbers)) / size if size else 0.0


def array_spread(arrays: Mapping[str, np.ndarray]) -> float:
    """Largest rms difference between two arrays over the largest rms."""
    largest = max(float(np.sqrt(np.mean(array**2))) for array in arrays.values())
    apart = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in itertools.combinations(arrays.values(), 2)]
    return max(apart, default=0.0) / largest if largest else 0.0


def effect_of_draws(where: str, quantity: str, values: Mapping[str, list[float]]) -> Effect:
    """The means over repetitions, and how far chance alone moves them.

    Every repetition has its own remaining weights, the same ones for all frameworks. They move all means together, so
    they are taken out first: chance is what is left when each repetition's mean over the frameworks is subtracted.
    """
    table = np.array(list(values.values()))
    apart = table - table.mean(axis=0) + table.mean()
    errors = apart.std(axis=1, ddof=1) / np.sqrt(table.shape[1]) / table.mean(axis=1)
    means = {framework: float(np.mean(numbers)) for framework, numbers in values.items()}
    return Effect(
        measured_on=where, quantity=quantity, values=means, relative_difference=spread_of(means),
        chance=float(errors.max()),
    )  # fmt: skip


class EffectFinder:
    """Finds the effects of the rows that differ.

    Args:
        observed: what was found, by framework.
        seed: of weights, data and batches.
    """

    def __init__(self, observed: Mapping[str, Observed], seed: int) -> None:
        self._observed, self._seed = observed, seed
        self._tasks: dict[str, Task] = {}

    def task(self, spec: ModelSpec) -> Task:
        """The task of a model, made once."""
        if spec.kind not in self._tasks:
            self._tasks[spec.kind] = Task.of(spec, self._seed)
        return self._tasks[spec.kind]

    def numbers(self, topic: str, word: str, name: str) -> dict[str, float]:
        """A number of a finding by framework, where it was found."""
        found = {framework: seen.number(topic, word, name) for framework, seen in self._observed.items()}
        return {framework: number for framework, number in found.items() if number is not None}

    def of_draws(self, spec: ModelSpec, part: Callable[[str], bool], rows: slice | None = None) -> list[Effect]:
        """The reference trained from each framework's own draws of some weights, all others the same.

        Args:
            spec: the model.
            part: which weights, by canonical name.
            rows: only these rows of them; all unless given.
        """
        task = self.task(spec)
        sizes: dict[str, list[float]] = {}
        losses: dict[str, list[float]] = {}
        for framework, seen in self._observed.items():
            for repetition, draw in enumerate(seen.draws.get(spec.kind, [])):
                weights = seeded_weights(spec, self._seed + repetition)
                for name in filter(part, draw):
                    weights[name][rows or slice(None)] = draw[name][rows or slice(None)]
                before = float(np.sqrt(np.mean(task.logits(weights) ** 2)))
                sizes.setdefault(framework, []).append(before)
                losses.setdefault(framework, []).append(task.loss_on_test(task.logits(task.train(weights))))
        where = f"{task.name}, mean of {REPETITIONS} draws"
        return [
            effect_of_draws(where, quantity, values)
            for quantity, values in (
                ("rms of the logits before training", sizes),
                (f"test loss after {STEPS} steps", losses),
            )
            if len(values) > 1
        ]

    def of_logits(self, task: Task, where: str, logits: Mapping[str, np.ndarray]) -> list[Effect]:
        """The difference of logits, and of the loss on the test examples, after training."""
        losses = {framework: task.loss_on_test(values) for framework, values in logits.items()}
        if len(losses) < 2:
            return []
        return [
            Effect(measured_on=where, quantity=f"logits after {STEPS} steps", relative_difference=array_spread(logits)),
            Effect(measured_on=where, quantity=f"test loss after {STEPS} steps", values=losses,
                   relative_difference=spread_of(losses)),
        ]  # fmt: skip

    def of_optimiser(self, name: str, constant: str | None, rates: Mapping[str, float] | None = None) -> list[Effect]:
        """Training by the rule of one framework with only one constant, the formula, or the rate of each other.

        Args:
            name: optimiser word.
            constant: whose; None changes the formula.
            rates: learning rate by framework; given, only it changes.
        """
        rules = {framework: seen.rules[name] for framework, seen in self._observed.items() if name in seen.rules}
        if name == "sgd":
            rules = {framework: (RULES["sgd"]["w -= rate * g"][0], {}) for framework in rates or {}}
        if not rules:
            return []
        first = next(iter(rules))
        rule, constants = rules[first]
        task, logits = self.task(DENSE), {}
        schedule = np.full(STEPS, 0.001)
        if name in ("momentum", "nesterov"):
            schedule = np.where(np.arange(STEPS) < STEPS // 2, 0.05, 0.005)
        weights = seeded_weights(DENSE, self._seed)
        for framework in rates or rules:
            used, found, steps = rule, dict(constants), schedule
            if rates:
                steps = np.full(STEPS, rates[framework])
            elif constant:
                found[constant] = rules[framework][1][constant]
            else:
                used = rules[framework][0]
            logits[framework] = task.logits(task.train_by(used, found, steps, weights))
        other = "" if name == "sgd" else f", {name} of {first} otherwise"
        changed = ", the rate a tenth from step 10 on" if name in ("momentum", "nesterov") else ""
        return self.of_logits(task, task.name + other + changed, logits)

    def of_batch_norm(self, field: str, values: Mapping[str, float]) -> list[Effect]:
        """The residual reference with each framework's `epsilon` or `momentum`."""
        task, logits = self.task(RESIDUAL), {}
        weights = seeded_weights(RESIDUAL, self._seed)
        for framework, value in values.items():
            spec = replace(RESIDUAL, **{field: value})  # type: ignore[arg-type]
            logits[framework] = task.logits(task.train(weights, spec), spec)
        return self.of_logits(task, f"{task.name}, inference with running statistics", logits)

    def of_running_variance(self, ratios: Mapping[str, float]) -> list[Effect]:
        """The residual reference whose running variances take in the biased or the unbiased one.

        Both follow from one training, as running statistics enter no training step: what has entered them from the
        batches is scaled by n / (n - 1), n being the values that a channel has in a batch.
        """
        task, logits = self.task(RESIDUAL), {}
        start = seeded_weights(RESIDUAL, self._seed)
        trained = task.train(start)
        kept = (1 - RESIDUAL.momentum) ** STEPS
        for framework, ratio in ratios.items():
            weights = dict(trained)
            for name in filter(lambda name: name.endswith(".variance") and ratio > 1 + 1e-3, weights):
                edge = 8 if name.startswith(("stem", "stage.0")) else 4
                count = BATCH_SIZE * edge**2
                weights[name] = kept * start[name] + (trained[name] - kept * start[name]) * count / (count - 1)
            logits[framework] = task.logits(weights)
        return self.of_logits(task, f"{task.name}, inference with running statistics", logits)

    def of_forget_bias(self) -> list[Effect]:
        """The LSTM trained with the forget-gate biases that each framework draws."""
        return self.of_draws(LSTM, lambda name: name.endswith("bias"), slice(LSTM.hidden_size, 2 * LSTM.hidden_size))

    def measured(self, topic: str, word: str) -> list[Effect]:
        """Effects on a training of the reference; empty for words that have none there."""
        draws: dict[str, tuple[ModelSpec, str]] = {
            "dense kernel": (DENSE, ".weight"),
            "dense bias": (DENSE, ".bias"),
            "convolution kernel": (RESIDUAL, ".weight"),
        }
        for spec in (RNN, LSTM):
            draws[f"{spec.kind} input kernel"] = (spec, ".weight_ih")
            draws[f"{spec.kind} recurrent kernel"] = (spec, ".weight_hh")
            draws[f"{spec.kind} bias"] = (spec, ".bias")
        if topic == "initialisation" and word in draws:
            model, ending = draws[word]
            return self.of_draws(model, lambda name: name.endswith(ending))
        if (topic, word) == (RECURRENT, "lstm forget-gate bias"):
            return self.of_forget_bias()
        if topic == "normalisation" and word == "batch-norm epsilon":
            return self.of_batch_norm("epsilon", self.numbers(topic, word, "epsilon"))
        if topic == "normalisation" and word == "batch-norm momentum":
            return self.of_batch_norm("momentum", self.numbers(topic, word, "share"))
        if topic == "normalisation" and word == "batch-norm running variance":
            return self.of_running_variance(self.numbers(topic, word, "ratio_to_biased"))
        if topic == "optimiser":
            name, _, what = word.partition(" ")
            if what == "learning rate":
                return self.of_optimiser(name, None, self.numbers(topic, word, "rate"))
            return self.of_optimiser(name, None if what in ("formula", "epsilon is added") else what.replace(" ", "_"))
        return []
