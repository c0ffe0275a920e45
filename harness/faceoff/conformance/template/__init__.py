"""Dense models in NumPy. `faceoff.core.contract` says what each method is for; put your framework in their place."""

import numpy as np

from faceoff.core.contract import Model, Runtime
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import DenseSpec


class NumpyRuntime(Runtime):
    """NumPy on the CPU."""

    def configure(self, settings):
        if settings.device != "cpu":
            raise UnsupportedError("NumPy sees no GPU")

    def modes(self, device):
        return ("eager",)

    def build(self, workload, weights, mode):
        if mode != "eager":
            raise UnsupportedError(f"no mode {mode!r}")
        if not isinstance(workload.model, DenseSpec):
            raise UnsupportedError(f"no {workload.model.kind} models")
        if workload.dtype not in ("float64", "float32"):
            raise UnsupportedError(f"no {workload.dtype}")
        return Dense(workload, weights)

    def place(self, batch, dtype):
        return batch.inputs["x"].astype(dtype), batch.targets

    def wait(self, value):
        return

    def fetch(self, value):
        return value

    def memory(self):
        return {}

    def stream(self, count):
        source = np.ones(count, dtype=np.float32)
        return lambda: source + 1

    def describe(self):
        return {"versions": {"numpy": np.__version__}}


class Dense(Model):
    """Layers, softmax cross-entropy, four optimisers."""

    def __init__(self, workload, weights):
        self._spec, self._rule, self._dtype = workload.model, workload.optimiser, workload.dtype
        decays = self._rule.kind == "adamw"
        self._share_kept = 1 - self._rule.learning_rate * self._rule.weight_decay if decays else 1.0
        self.reset(weights)

    def reset(self, weights):
        self._weights = {name: np.array(value, dtype=self._dtype) for name, value in weights.items()}
        zeros = {name: np.zeros_like(value) for name, value in self._weights.items()}
        self._state = {kind: {n: z.copy() for n, z in zeros.items()} for kind in self._rule.state_names}
        self._steps = 0

    def _layers(self, x):
        values = [x]
        for index in range(self._spec.num_layers):
            y = values[-1] @ self._weights[f"layer.{index}.weight"].T + self._weights[f"layer.{index}.bias"]
            if index < self._spec.num_layers - 1:
                y = np.tanh(y) if self._spec.activation == "tanh" else np.maximum(y, 0)
            values.append(y)
        return values

    def forward(self, batch):
        return self._layers(batch[0])[-1]

    def gradients(self, batch):
        x, targets = batch
        values, rows = self._layers(x), np.arange(len(x))
        shifted = values[-1] - values[-1].max(axis=1, keepdims=True)
        sums = np.exp(shifted).sum(axis=1, keepdims=True)
        loss = (np.log(sums)[:, 0] - shifted[rows, targets]).mean()
        grad = np.exp(shifted) / sums
        grad[rows, targets] -= 1
        grad /= len(x)
        found = {}
        for index in reversed(range(self._spec.num_layers)):
            if index < self._spec.num_layers - 1:
                value = values[index + 1]
                grad = grad * ((1 - value**2) if self._spec.activation == "tanh" else (value > 0))
            found[f"layer.{index}.weight"] = grad.T @ values[index]
            found[f"layer.{index}.bias"] = grad.sum(axis=0)
            grad = grad @ self._weights[f"layer.{index}.weight"]
        return loss, found, grad

    def canonical(self, gradients):
        loss, by_weights, by_x = gradients
        return {"loss": loss, "weights": by_weights, "inputs": {"x": by_x}}

    def train_step(self, batch):
        loss, by_weights, _ = self.gradients(batch)
        self._steps += 1
        for name, gradient in by_weights.items():
            step = getattr(self, f"_{self._rule.kind}")(name, gradient)
            kept = self._weights[name] * self._share_kept
            self._weights[name] = (kept - self._rule.learning_rate * step).astype(self._dtype)
        return loss

    def _sgd(self, name, gradient):
        return gradient

    def _momentum(self, name, gradient):
        held = self._state["momentum"]
        held[name] = self._rule.momentum * held[name] + gradient
        return held[name]

    def _adam(self, name, gradient):
        rule, first, second = self._rule, self._state["first moment"], self._state["second moment"]
        first[name] = rule.beta1 * first[name] + (1 - rule.beta1) * gradient
        second[name] = rule.beta2 * second[name] + (1 - rule.beta2) * gradient**2
        root = np.sqrt(second[name] / (1 - rule.beta2**self._steps)) + rule.epsilon
        return first[name] / (1 - rule.beta1**self._steps) / root

    _adamw = _adam

    def weights(self):
        return {name: value.copy() for name, value in self._weights.items()}

    def optimiser_state(self):
        return {kind: {name: value.copy() for name, value in held.items()} for kind, held in self._state.items()}

    def trace(self, batch, training):
        return {f"layer.{index}": value for index, value in enumerate(self._layers(batch[0])[1:])}

    def describe(self):
        return {"kernel": "NumPy's products"}


RUNTIME = NumpyRuntime()
