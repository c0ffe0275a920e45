"""TensorFlow behind the harness's interface: devices, precision, threads, and what is compiled."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port as port

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import ModelSpec, OwnSpec, RecurrentSpec, Workload, require_choice
from faceoff.core.tuning import TUNED, is_tuned, kind_of
from faceoff.core.weights import Batch, Weights, check_weights, input_shapes, is_statistic, trainable_names

from . import dense, gpu_libraries, installed, lstm, own, residual, rnn
from .optimiser import held_state, lacks_kernel, make_optimiser

FAMILIES: dict[str, ModuleType] = {"dense": dense, "residual": residual, "rnn": rnn, "lstm": lstm, OwnSpec.kind: own}
# What serves each model best in the mode `tuned`, which has oneDNN's kernels.
TUNED_MODES = {"dense": "xla", "residual": "graph", "rnn": "graph", "lstm": "xla"}
# XLA cannot compile cuDNN's LSTM.
TUNED_MODES_ON_GPU = {**TUNED_MODES, "lstm": "graph"}
MODES = ("eager", "graph", "graph-onednn", "xla")
# A graph with its constants must stay under 2 GiB.
FREEZE_LIMIT_BYTES = 2**29


class PlacedBatch(NamedTuple):
    """A batch on the device: inputs by name, class numbers, and the number of examples."""

    inputs: dict[str, tf.Tensor]
    targets: tf.Tensor
    size: int


class TensorFlowRuntime(Runtime):
    """One device of TensorFlow."""

    def __init__(self) -> None:
        self._device = "cpu"
        self._float32_as = ""

    def configure(self, settings: Settings) -> None:
        """Fixes the device, true float32 products and the threads; memory on a GPU grows as needed.

        Independent operations of a graph run side by side on as many threads as one operation may use.

        Raises:
            UnsupportedError: TensorFlow sees no such device.
        """
        gpus = tf.config.list_physical_devices("GPU")
        if settings.device == "gpu" and not gpus:
            raise UnsupportedError(
                "TensorFlow sees no GPU", where="tensorflow", got=f"tensorflow {tf.__version__}",
                expected="a GPU and a build of TensorFlow for it", next_step="pip install 'tensorflow[and-cuda]'",
            )  # fmt: skip
        self._device = settings.device
        tf.config.set_visible_devices(gpus[:1] if settings.device == "gpu" else [], "GPU")
        for gpu in gpus[:1]:
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
        tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
        tf.config.experimental.enable_tensor_float_32_execution(False)
        # An error then says what is wrong, and every layer's call has one `try` less.
        keras.config.disable_traceback_filtering()
        keras.utils.set_random_seed(settings.seed)

    def modes(self, device: str) -> tuple[str, ...]:
        return MODES if device == "cpu" else tuple(mode for mode in MODES if mode != "graph-onednn")

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Makes the model.

        Raises:
            InputError: an unknown mode, or weights that do not fit.
            UnsupportedError: oneDNN is wanted and not in force, or TF32 after float32.
        """
        require_choice(kind_of(mode), (*self.modes(self._device), TUNED), "tensorflow.mode")
        if mode == "graph-onednn" and not port.IsMklEnabled():
            raise UnsupportedError(
                "oneDNN is not in force", where="tensorflow:graph-onednn",
                got=f"TF_ENABLE_ONEDNN_OPTS={os.environ.get('TF_ENABLE_ONEDNN_OPTS')}",
                next_step="set TF_ENABLE_ONEDNN_OPTS=1 before the process starts",
            )  # fmt: skip
        check_weights(workload.model, weights)
        self._use_tf32(workload)
        if isinstance(workload.model, OwnSpec):
            # It is made of what is below.
            from .own_model import OwnModel

            return OwnModel(workload, weights, mode)
        return TensorFlowModel(workload, weights, mode)

    def open_side(self, file: str, seed: int) -> dict[str, Any]:
        return own.open_side(file, seed)

    def _use_tf32(self, workload: Workload) -> None:
        """Whether products of float32 may round their operands to TF32.

        Raises:
            UnsupportedError: this process has chosen kernels for the other way, which TensorFlow would use again.
        """
        # cuDNN's recurrent layers compute in float32 what is in bfloat16; TF32 rounds no coarser than that.
        exact = self._device == "gpu" and workload.dtype in ("bfloat16", "mixed_bfloat16")
        if self._device == "gpu" and workload.dtype in ("float32", "tf32"):
            self._float32_as = self._float32_as or workload.dtype
            if self._float32_as != workload.dtype:
                raise UnsupportedError(
                    "TensorFlow keeps the kernels that a process has chosen for float32 products",
                    where="tensorflow.dtype", got=f"{workload.dtype} after {self._float32_as}",
                    next_step="run it for each dtype by itself",
                )  # fmt: skip
        tf.config.experimental.enable_tensor_float_32_execution(workload.dtype == "tf32" or exact)

    def place(self, batch: Batch, dtype: str) -> PlacedBatch:
        inputs = {name: _to_tensor(value, dtype) for name, value in batch.inputs.items()}
        placed = PlacedBatch(inputs, _to_tensor(batch.targets, dtype), len(batch.targets))
        self.wait(placed)
        return placed

    def wait(self, value: Any) -> None:
        # On a CPU operations and graphs run to their end before they return.
        if self._device == "gpu":
            # `sync_devices` visits every device in Python, which takes as long as a small call.
            with tf.device("/device:GPU:0"):
                tf.raw_ops.SyncDevice()

    def forget_peak(self) -> None:
        if self._device == "gpu":
            tf.config.experimental.reset_memory_stats("GPU:0")

    def stream(self, count: int) -> Callable[[], tf.Tensor]:
        # No operation only copies; one that changes each number moves as many bytes.
        source = tf.ones((count,))
        return lambda: tf.negative(source)

    def fetch(self, value: Any) -> Any:
        return tf.nest.map_structure(lambda item: _to_numpy(item) if tf.is_tensor(item) else item, value)

    def memory(self) -> dict[str, int]:
        if self._device != "gpu":
            return {}
        device = tf.config.experimental.get_memory_info("GPU:0")
        return {"device_in_use_bytes": device["current"], "device_peak_bytes": device["peak"]}

    def describe(self) -> dict[str, Any]:
        distributions = ("tensorflow", "tensorflow-cpu", "keras", "numpy")
        return {
            "versions": {name: version for name in distributions if (version := installed.version_of(name))},
            "keras_backend": keras.config.backend(),
            "device": [device.name for device in tf.config.list_logical_devices()],
            "card": installed.card_name() if self._device == "gpu" else None,
            "threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "onednn": bool(port.IsMklEnabled()),
            "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "xla_auto_jit": tf.config.optimizer.get_jit() or "off",
            "built_for_cuda": tf.sysconfig.get_build_info().get("cuda_version"),
            "built_for_cudnn": tf.sysconfig.get_build_info().get("cudnn_version"),
            **(gpu_libraries.loaded() if self._device == "gpu" else {}),
            "synchronous": tf.config.experimental.get_synchronous_execution(),
            "environment": {
                name: value
                for name, value in os.environ.items()
                if name.startswith(
                    ("TF_ENABLE_", "TF_XLA_", "TF_GPU_", "XLA_", "OMP_", "KMP_", "DNNL_", "ONEDNN_", "GLIBC_")
                )
            },
        }


class TensorFlowModel(Model):
    """A Keras model with its optimiser, run eagerly, or each step as one graph, which XLA may compile.

    Args:
        workload: what to compute.
        weights: canonical.
        mode: one of `MODES`, or `tuned`, whole or without a setting.
    """

    def __init__(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> None:
        self._workload, self._tuned = workload, is_tuned(mode)
        modes = TUNED_MODES_ON_GPU if workload.device == "gpu" else TUNED_MODES
        self._mode = mode = modes[workload.model.kind] if self._tuned else mode
        self._family = FAMILIES[workload.model.kind]
        self._network = self._make_network(workload.model)
        self._hold()
        self._optimiser = make_optimiser(workload.optimiser, self._trained)
        self._graphs: dict[tuple[str, int], Callable[..., Any]] = {}
        size_bytes = sum(value.size for value in weights.values()) * tf.as_dtype(workload.storage_dtype).size
        # Constants let the graph optimiser fold batch norm into convolutions and lay weights out once for products.
        self._freezes = mode != "eager" and size_bytes <= FREEZE_LIMIT_BYTES
        self._first = self._native(weights)
        self.reset(weights)

    def forward(self, batch: PlacedBatch) -> tf.Tensor:
        step = self._infer_frozen if self._is_frozen else self._infer
        return self._run(step, batch)

    def gradients(self, batch: PlacedBatch) -> tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]:
        return self._run(self._differentiate, batch)

    def train_step(self, batch: PlacedBatch) -> tf.Tensor:
        self._is_frozen = False
        return self._run(self._train, batch)

    def weights(self) -> Weights:
        return {name: self._to_canonical(name, variable.value) for name, variable in self._held.items()}

    def optimiser_state(self) -> dict[str, Weights]:
        names = trainable_names(self._workload.model)
        return {
            kind: {name: self._to_canonical(name, slot.value) for name, slot in zip(names, slots, strict=True)}
            for kind, slots in held_state(self._optimiser).items()
        }

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        native = self._native(weights)
        for name, value in native.items():
            self._held[name].assign(value)
        for variable in self._optimiser.variables:
            variable.assign(keras.ops.zeros_like(variable))
        # Constants are not compiled anew: other weights are served by the graph that reads them.
        self._is_frozen = self._freezes and all(
            np.array_equal(value, self._first[name]) for name, value in native.items()
        )

    def canonical(self, gradients: tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]) -> dict[str, Any]:
        loss, by_weights, by_inputs = gradients
        names = trainable_names(self._workload.model)
        return {
            "loss": _to_numpy(loss),
            "weights": {
                name: value if value is None else self._to_canonical(name, value)
                for name, value in zip(names, by_weights, strict=True)
            },
            "inputs": {
                name: by_inputs[name] if by_inputs[name] is None else _to_numpy(by_inputs[name])
                for name in input_shapes(self._workload.model, 1)
            },
        }

    def trace(self, batch: PlacedBatch, training: bool) -> dict[str, np.ndarray]:
        spec = self._workload.model
        last_only = isinstance(spec, RecurrentSpec) and not spec.many_to_many
        # Many-to-many, so that every layer shows its hidden states of all time steps.
        network = self._make_network(dataclasses.replace(spec, many_to_many=True) if last_only else spec)
        network.set_weights(self._network.get_weights())
        found: dict[str, np.ndarray] = {}
        for layer in network.layers:
            layer.call = _recorder(found, layer.name, layer)
            for part in getattr(layer, "parts", ()):
                part.call = _recorder(found, f"{layer.name}.{part.name}", part)
        network(**batch.inputs, training=training)
        if last_only:
            found["head"] = np.ascontiguousarray(found["head"][:, -1])
        return found

    def describe(self) -> dict[str, Any]:
        compiled = {
            "eager": "nothing",
            "xla": "each step by XLA (jit_compile), static shapes",
        }.get(self._mode, "each step as one graph (tf.function), static shapes")
        return {
            **self._family.ledger(self._workload.model, self._mode),
            **({"runs as": self._mode} if self._tuned else {}),
            "compiled": compiled,
            "forward": "weights as constants until they change" if self._freezes else "weights as variables",
            "forward now": "weights as constants" if self._is_frozen else "weights as variables",
            "optimiser": "plain operations, as TensorFlow's fused kernels lack this dtype"
            if lacks_kernel(tf.as_dtype(self._workload.storage_dtype))
            else "TensorFlow's fused update kernels",
            "precision": self._precision_in_force(),
        }

    def _precision_in_force(self) -> str:
        if self._workload.dtype == "tf32":
            return "TF32 products"
        found = self._workload.storage_dtype
        if self._workload.dtype == "mixed_bfloat16":
            found = f"Keras' policy {self._network.dtype_policy.name}, weights in float32"
        reduced = tf.config.experimental.tensor_float_32_execution_enabled()
        return f"{found}, TF32 products where cuDNN computes in float32" if reduced else found

    def _make_network(self, spec: ModelSpec) -> keras.Model:
        """The Keras model with its variables in place, none of them meaningful."""
        mixed = self._workload.dtype == "mixed_bfloat16"
        keras.config.set_dtype_policy("mixed_bfloat16" if mixed else self._workload.storage_dtype)
        network: keras.Model = self._family.Network(spec, self._mode)
        # Variables depend on neither the batch nor the time steps.
        tiny = dataclasses.replace(spec, sequence_length=1) if isinstance(spec, RecurrentSpec) else spec
        network(**{n: tf.zeros(shape, self._workload.storage_dtype) for n, shape in input_shapes(tiny, 1).items()})
        return network

    def _hold(self) -> None:
        """Finds the variables of all weights."""
        self._map: dict[str, tuple[str, tuple[int, ...]]] = self._family.weight_map(self._workload.model)
        held = {variable.path: variable for variable in self._network.variables}
        self._held = {name: held[path] for name, (path, _) in self._map.items()}
        self._trained = [self._held[name] for name in trainable_names(self._workload.model)]
        self._statistics = [variable for name, variable in self._held.items() if is_statistic(name)]

    def _native(self, weights: Mapping[str, np.ndarray]) -> Weights:
        """What each variable that is held takes of canonical weights."""
        return {name: weights[name].transpose(axes) for name, (_, axes) in self._map.items()}

    def _run(self, step: Callable[..., Any], batch: PlacedBatch) -> Any:
        """Calls `step`, as a graph in all modes but one; traced once for each number of examples."""
        if self._mode == "eager":
            return step(batch.inputs, batch.targets)
        graph = self._graphs.get((step.__name__, batch.size))
        if graph is None:
            function = tf.function(step, jit_compile=self._mode == "xla", autograph=False)
            # A concrete function skips the search for a fitting signature in every call.
            graph = function.get_concrete_function(batch.inputs, batch.targets)
            self._graphs[step.__name__, batch.size] = graph
        return graph(batch.inputs, batch.targets)

    def _infer(self, inputs: dict[str, tf.Tensor], targets: tf.Tensor) -> tf.Tensor:
        with self._scope(self._read()):
            return self._network(**inputs, training=False)

    def _infer_frozen(self, inputs: dict[str, tf.Tensor], targets: tf.Tensor) -> tf.Tensor:
        dtype = self._workload.storage_dtype
        constants = [(self._held[name], tf.constant(value, dtype)) for name, value in self._first.items()]
        with keras.StatelessScope(constants):
            return self._network(**inputs, training=False)

    def _differentiate(
        self, inputs: dict[str, tf.Tensor], targets: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], dict[str, tf.Tensor]]:
        values = self._read()
        # In this scope new running statistics are computed and not assigned.
        with self._scope(values), tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((values, inputs))
            loss = self._loss(inputs, targets)
        return loss, *tape.gradient(loss, (values, inputs))

    def _train(self, inputs: dict[str, tf.Tensor], targets: tf.Tensor) -> tf.Tensor:
        values = self._read()
        with self._scope(values) as scope, tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = self._loss(inputs, targets)
        # A weight that the loss does not depend on stays as it is; `_differentiate` tells of it.
        gradients = tape.gradient(loss, values, unconnected_gradients="zero")
        for variable in self._statistics:
            variable.value.assign(scope.get_current_value(variable))
        # A weight whose value is still held somewhere would be copied before its update.
        del values, scope
        self._optimiser.apply(gradients)
        return loss

    def _read(self) -> list[tf.Tensor]:
        """The values of all trained weights; read by each time step inside a loop they would make XLA's slow."""
        return [tf.convert_to_tensor(variable.value) for variable in self._trained]

    def _scope(self, values: list[tf.Tensor]) -> keras.StatelessScope:
        """Within it the layers take `values` for the trained weights, and assign to no variable."""
        return keras.StatelessScope(list(zip(self._trained, values, strict=True)))

    def _loss(self, inputs: dict[str, tf.Tensor], targets: tf.Tensor) -> tf.Tensor:
        """Mean softmax cross-entropy over all examples, and all time steps if there are logits for each."""
        logits = self._network(**inputs, training=True)
        if logits.dtype != self._workload.storage_dtype:
            logits = tf.cast(logits, self._workload.storage_dtype)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))

    def _to_canonical(self, name: str, value: tf.Tensor) -> np.ndarray:
        # argsort inverts a permutation of axes.
        return np.array(_to_numpy(value).transpose(np.argsort(self._map[name][1])), order="C")


def _recorder(found: dict[str, np.ndarray], name: str, layer: keras.layers.Layer) -> Callable[..., tf.Tensor]:
    """The layer's `call`, which also keeps its output under `name`."""
    call = layer.call

    def recorded(*args: Any, **kwargs: Any) -> tf.Tensor:
        outputs = call(*args, **kwargs)
        found[name] = _to_numpy(outputs)
        return outputs

    return recorded


def _to_tensor(value: np.ndarray, dtype: str) -> tf.Tensor:
    """Numbers in the dtype; counts and classes as they are."""
    return tf.cast(tf.constant(value), dtype) if value.dtype.kind == "f" else tf.constant(value)


def _to_numpy(value: tf.Tensor) -> np.ndarray:
    # NumPy has no bfloat16; float32 holds all its values.
    return (tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value).numpy()
