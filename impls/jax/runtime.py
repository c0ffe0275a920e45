"""JAX behind the harness's interface: devices, precision, threads, and one compiled program per verb."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import OwnSpec, RecurrentSpec, Workload, require_choice
from faceoff.core.tuning import TUNED, is_tuned, kind_of
from faceoff.core.weights import Batch, Weights, float_inputs, is_statistic, trace_names, weight_shapes

from . import cudnn, dense, lstm, own, residual, rnn, tuned
from .disturbance import Disturbance
from .optimiser import held_state, make_optimiser

FAMILIES: dict[str, ModuleType] = {"dense": dense, "residual": residual, "rnn": rnn, "lstm": lstm}

Arrays = dict[str, jax.Array]
PlacedBatch = tuple[Arrays, jax.Array]
"""Inputs by name, and targets; whole numbers as int32, which JAX counts in without x64 too."""


class JaxRuntime(Runtime):
    """One device of JAX, with XLA compiling whole steps."""

    def __init__(self) -> None:
        self._device: jax.Device | None = None

    @property
    def device(self) -> jax.Device:
        """The device that `configure` chose."""
        if self._device is None:
            raise UnsupportedError("no device yet", where="jax", next_step="call `configure` first")
        return self._device

    def configure(self, settings: Settings) -> None:
        """Fixes the device, true float32 products, and the size of XLA's thread pool.

        XLA reads the number of threads and its memory policy when the first device is asked for, which is here.

        Raises:
            UnsupportedError: JAX sees no such device.
        """
        os.environ["NPROC"] = str(settings.threads)
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        # Also without preallocation JAX would stop at three quarters of the card, where the others do not.
        os.environ["XLA_CLIENT_MEM_FRACTION"] = "0.95"
        if settings.device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_default_matmul_precision", "highest")
        try:
            self._device = jax.devices(settings.device)[0]
        except RuntimeError as error:
            raise UnsupportedError(
                f"JAX sees no {settings.device}", where="jax", got=str(error).splitlines()[0], expected="a device",
                next_step="install jax with the plugin for this device" if settings.device != "cpu" else None,
            ) from error  # fmt: skip
        jax.config.update("jax_default_device", self._device)

    def modes(self, device: str) -> tuple[str, ...]:
        return ("jit", "cudnn") if device == "gpu" else ("jit",)

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Makes the model; float64 needs x64 switched on for the process, and float32 runs as users run it, without."""
        if isinstance(workload.model, OwnSpec) and mode != "jit":
            raise UnsupportedError("a user's own model runs in the mode `jit` only", where="jax.mode", got=mode)
        require_choice(kind_of(mode), (*self.modes(workload.device), TUNED), "jax.mode")
        jax.config.update("jax_enable_x64", workload.dtype == "float64")
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if workload.dtype == "tf32" else "highest")
        if isinstance(workload.model, OwnSpec):
            # It is made of what is below.
            from .own_model import OwnModel

            return OwnModel(workload, weights, mode)
        return JaxModel(workload, weights, mode)

    def open_side(self, file: str, seed: int) -> dict[str, Any]:
        return own.open_side(file)

    def place(self, batch: Batch, dtype: str) -> PlacedBatch:
        # Without x64, JAX would make float32 from float64 and say nothing.
        with jax.enable_x64(True):
            inputs = {name: _to_jax(value, dtype) for name, value in batch.inputs.items()}
            placed = inputs, _to_jax(batch.targets, dtype)
        return jax.block_until_ready(placed)

    def wait(self, value: Any) -> None:
        jax.block_until_ready(value)

    def stream(self, count: int) -> Callable[[], jax.Array]:
        source = jax.block_until_ready(jnp.ones(count, jnp.float32))
        negate = jax.jit(jnp.negative)
        return lambda: negate(source)

    def fetch(self, value: Any) -> Any:
        return jax.tree.map(_to_numpy, value)

    def memory(self) -> dict[str, int]:
        # JAX never forgets a peak, so that of the timed calls comes from XLA's plan of them (`Model.working_bytes`).
        names = {"bytes_in_use": "device_in_use_bytes", "pool_bytes": "device_reserved_bytes"}
        statistics = self.device.memory_stats() or {}
        return {ours: int(statistics[theirs]) for theirs, ours in names.items() if theirs in statistics}

    def describe(self) -> dict[str, Any]:
        return {
            "versions": {
                name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")
            },
            "device": f"{self.device.platform}: {self.device.device_kind}",
            "devices": [str(device) for device in jax.devices()],
            "platform_version": self.device.client.platform_version,
            **(_cuda_libraries() if self.device.platform == "gpu" else {}),
            "threads": _pool_threads(),
            "x64": bool(jax.config.jax_enable_x64),
            "matmul_precision": jax.config.jax_default_matmul_precision,
            "compilation_cache": jax.config.jax_compilation_cache_dir,
            "environment": {
                name: os.environ[name] for name in ("NPROC", "XLA_FLAGS", "GLIBC_TUNABLES") if name in os.environ
            },
        }


class JaxModel(Model):
    """A Flax module as three pure functions of its arrays, each compiled at its first call.

    The module's structure is split off once and meets its arrays again while a function is traced. Arrays travel as
    flat dicts by canonical name, in Flax's layouts: JAX takes those into a compiled function faster than module states.

    Args:
        workload: what to compute.
        weights: canonical.
        mode: `jit`, `cudnn`, or `tuned`, whole or without a setting.
    """

    def __init__(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> None:
        self._workload = workload
        self._mixed = workload.dtype == "mixed_bfloat16"
        self._names = tuple(weight_shapes(workload.model))
        self._make_network(mode)
        self._optimiser = make_optimiser(workload.optimiser)
        self._forward: Callable[..., Any] = jax.jit(self._logits)
        self._gradients: Callable[..., Any] = jax.jit(self._differentiate)
        self._train_step: Callable[..., Any] = jax.jit(self._step, donate_argnums=(0, 1, 2))
        self._trace = jax.jit(self._intermediates, static_argnums=0)
        self._disturbance: Disturbance | None = None
        self.reset(weights)

    def _make_network(self, mode: str) -> None:
        """Makes the module, and says where its weights sit."""
        workload = self._workload
        family = FAMILIES[workload.model.kind]
        by_hand = is_tuned(mode) and isinstance(workload.model, RecurrentSpec)
        make_network = tuned.choose_network(workload.model, mode) if by_hand else family.Network
        self._ledger: dict[str, Any] = dict(family.LEDGER)
        if mode == "cudnn" and cudnn.serves(workload):
            make_network, self._ledger = cudnn.Lstm, dict(cudnn.LEDGER)
        elif mode == "cudnn":
            self._ledger["cudnn"] = cudnn.NOT_SERVED
        self._map = (cudnn if make_network is cudnn.Lstm else family).weight_map(workload.model)
        module = nnx.eval_shape(lambda: make_network(workload.model, jnp.dtype(workload.storage_dtype), nnx.Rngs(0)))
        self._graph, state = nnx.split(module)
        self._variables = dict(nnx.to_flat_state(state))

    def forward(self, batch: PlacedBatch) -> jax.Array:
        return self._forward(self._trained, self._statistics, batch[0])

    def gradients(self, batch: PlacedBatch) -> Any:
        return self._gradients(self._trained, self._statistics, *batch)

    def train_step(self, batch: PlacedBatch) -> jax.Array:
        loss, self._trained, self._statistics, self._optimiser_state = self._train_step(
            self._trained, self._statistics, self._optimiser_state, *batch
        )
        return loss

    def weights(self) -> Weights:
        return self._to_canonical({**self._trained, **self._statistics})

    def optimiser_state(self) -> dict[str, Weights]:
        held = held_state(self._optimiser_state, self._workload.optimiser)
        return {kind: self._to_canonical(arrays) for kind, arrays in held.items()}

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        dtype = self._workload.storage_dtype
        arrays = {name: jnp.array(value, dtype=dtype) for name, value in self._native(weights).items()}
        self._trained: Arrays = {name: value for name, value in arrays.items() if not self._is_statistic(name)}
        self._statistics: Arrays = {name: value for name, value in arrays.items() if self._is_statistic(name)}
        self._optimiser_state = self._optimiser.init(self._trained)
        jax.block_until_ready((self._trained, self._statistics, self._optimiser_state))

    def canonical(self, gradients: Any) -> dict[str, Any]:
        loss, by_weights, by_inputs = gradients
        return {
            "loss": _to_numpy(loss),
            "weights": self._to_canonical({name: value for name, value in by_weights.items() if value is not None}),
            "inputs": {name: _to_numpy(value) for name, value in by_inputs.items() if value is not None},
        }

    def working_bytes(self, step: str, batch: PlacedBatch) -> int | None:
        """By XLA's own plan of the buffers of a call."""
        if self._disturbance:
            return None
        held = self._trained, self._statistics
        # Compiled already, so that neither is done again.
        lowered = {
            "inference": lambda: self._forward.lower(*held, batch[0]),
            "gradients": lambda: self._gradients.lower(*held, *batch),
            "training": lambda: self._train_step.lower(*held, self._optimiser_state, *batch),
        }[step]()
        plan = lowered.compile().memory_analysis()
        if plan is None:
            return None
        return int(plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes)

    def disturb(self, dtype: str, unit_roundoff: float | None, seed: int, alike: bool) -> None:
        if self._workload.dtype != "float64":
            raise UnsupportedError(
                "stochastic arithmetic is for a model in float64", where="jax.disturb", got=self._workload.dtype
            )
        if self._disturbance is None:
            self._disturbance = Disturbance((self._logits, self._differentiate, self._step))
            self._forward, self._gradients, self._train_step = self._disturbance.verbs
        self._disturbance.begin(dtype, unit_roundoff, seed, alike)

    def left_whole(self) -> dict[str, int]:
        return self._disturbance.left_whole() if self._disturbance else {}

    def trace(self, batch: PlacedBatch, training: bool) -> dict[str, np.ndarray]:
        found = self._trace(training, self._trained, self._statistics, batch[0])
        return {name: _to_numpy(value) for name, value in found.items()}

    def describe(self) -> dict[str, Any]:
        return {
            **self._ledger,
            "compiled": "one XLA program each for forward, gradients and train_step",
            "donated": "train_step: weights, running statistics, optimiser state",
            "precision": "cast to bfloat16 at entry, weights in float32"
            if self._mixed
            else "TF32 products"
            if jax.config.jax_default_matmul_precision == "tensorfloat32"
            else self._workload.storage_dtype,
        }

    def _native(self, weights: Mapping[str, np.ndarray]) -> Weights:
        """Canonical weights by the names by which arrays are held, in Flax's layout."""
        return {name: weights[name].transpose(self._map[name][1]) for name in self._names}

    def _is_statistic(self, name: str) -> bool:
        return is_statistic(name)

    def _to_canonical(self, arrays: Arrays) -> Weights:
        # argsort inverts a permutation of axes.
        inverse = {name: np.argsort(self._map[name][1]) for name in self._names if name in arrays}
        return {name: np.array(_to_numpy(arrays[name]).transpose(axes), order="C") for name, axes in inverse.items()}

    def _narrow(self, arrays: Arrays) -> Arrays:
        """Weights or inputs as they enter the network; gradients come out in the dtype of what was given."""
        if not self._mixed:
            return arrays
        floats = {name: value for name, value in arrays.items() if jnp.issubdtype(value.dtype, jnp.floating)}
        return {**arrays, **{name: value.astype(jnp.bfloat16) for name, value in floats.items()}}

    def _module(self, trained: Arrays, statistics: Arrays, training: bool) -> nnx.Module:
        arrays = {**trained, **statistics}
        paths = {name: path for name, (path, _) in self._map.items()}
        state = nnx.from_flat_state(
            [(path, self._variables[path].replace(arrays[name])) for name, path in paths.items()]
        )
        module = nnx.merge(self._graph, state)
        module.train() if training else module.eval()
        return module

    def _logits(self, trained: Arrays, statistics: Arrays, inputs: Arrays) -> jax.Array:
        return self._module(self._narrow(trained), statistics, training=False)(**self._narrow(inputs))

    def _loss(
        self, trained: Arrays, inputs: Arrays, statistics: Arrays, targets: jax.Array
    ) -> tuple[jax.Array, Arrays]:
        module = self._module(self._narrow(trained), statistics, training=True)
        logits = module(**self._narrow(inputs)).astype(self._workload.storage_dtype)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        moved = dict(nnx.to_flat_state(nnx.state(module, nnx.BatchStat)))
        return losses.mean(), {name: moved[self._map[name][0]][...] for name in statistics}

    def _differentiate(self, trained: Arrays, statistics: Arrays, inputs: Arrays, targets: jax.Array) -> Any:
        def compute(trained: Arrays, moving: Arrays) -> tuple[jax.Array, Arrays]:
            return self._loss(trained, {**inputs, **moving}, statistics, targets)

        moving = {name: inputs[name] for name in float_inputs(self._workload.model)}
        differentiate = jax.value_and_grad(compute, argnums=(0, 1), has_aux=True)
        (loss, _), (by_weights, by_inputs) = differentiate(trained, moving)
        return loss, by_weights, by_inputs

    def _step(self, trained: Arrays, statistics: Arrays, state: Any, inputs: Arrays, targets: jax.Array) -> Any:
        differentiate = jax.value_and_grad(self._loss, has_aux=True)
        (loss, statistics), gradients = differentiate(trained, inputs, statistics, targets)
        updates, state = self._optimiser.update(gradients, state, trained)
        return loss, optax.apply_updates(trained, updates), statistics, state

    def _intermediates(self, training: bool, trained: Arrays, statistics: Arrays, inputs: Arrays) -> Arrays:
        module = self._module(self._narrow(trained), statistics, training)
        module.set_attributes(layer_by_layer=True, raise_if_not_found=False)
        logits = module(**self._narrow(inputs))
        recorded = nnx.to_flat_state(nnx.pop(module, nnx.Intermediate))
        return {path[-1]: value[0] for path, value in recorded} | {trace_names(self._workload.model)[-1]: logits}


def _to_jax(value: np.ndarray, dtype: str) -> jax.Array:
    return jnp.array(value, dtype=dtype if value.dtype.kind == "f" else jnp.int32)


def _to_numpy(value: jax.Array) -> np.ndarray:
    # NumPy's own dtypes lack bfloat16; float32 holds all its values.
    return np.array(value, dtype=np.float32 if value.dtype == jnp.bfloat16 else None)


def _cuda_libraries() -> dict[str, str]:
    """Versions of what JAX has loaded for a GPU, which it tells by its own plugin alone."""
    from jax._src.lib import cuda_versions

    if cuda_versions is None:
        return {}
    cuda, cudnn = cuda_versions.cuda_runtime_get_version(), cuda_versions.cudnn_get_version()
    return {
        "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}",
        "cudnn": f"{cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}",
    }


def _pool_threads() -> int:
    """Threads of the pool that XLA runs operations on, counted, not asked for."""
    names = (task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
    return sum(name == "tf_XLAEigen" for name in names)
