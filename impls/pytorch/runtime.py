"""PyTorch behind the harness's interface: devices, precision, threads, and what is compiled."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from faceoff.core.contract import Model, Runtime, Settings
from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import LstmSpec, ModelSpec, OwnSpec, RecurrentSpec, ResidualSpec, Workload, require_choice
from faceoff.core.tuning import BACKWARD, TUNED, does, is_tuned, kind_of
from faceoff.core.weights import Batch, Weights, check_weights, input_shapes, trainable_names

from . import dense, lstm, own, residual, rnn, tuned
from .compiling import FrozenNetwork, OperationCounter, allow_many_sizes
from .gpu import autocast_of_recurrent, pack_bfloat16, reduce_products, weights_of_recurrent
from .graphs import PlacedBatch, Step, StepGraphs, place_array
from .optimiser import held_state, is_fused, make_optimiser, state_tensors
from .tracing import depths, recorder, to_numpy

FAMILIES: dict[str, ModuleType] = {"dense": dense, "residual": residual, "rnn": rnn, "lstm": lstm, "own": own}
# What serves each model best in the mode `tuned`, which has a backward pass of its own for RNN.
TUNED_MODES = {"dense": "eager", "residual": "compile", "rnn": "eager", "lstm": "eager"}
# A whole step as one graph has no launches between its kernels.
TUNED_MODES_ON_GPU = dict.fromkeys(FAMILIES, "cuda-graphs")
MODES = ("eager", "compile", "cuda-graphs")
# Of the environment variables that the ledger shows.
PREFIXES = ("OMP_", "MKL_", "KMP_", "ONEDNN_", "DNNL_", "TORCH", "ATEN_", "PYTORCH_", "GLIBC_", "TRITON_", "CU")


class PyTorchRuntime(Runtime):
    """One device of PyTorch."""

    def __init__(self) -> None:
        self._device: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The device that `configure` chose."""
        if self._device is None:
            raise UnsupportedError("no device yet", where="pytorch", next_step="call `configure` first")
        return self._device

    def configure(self, settings: Settings) -> None:
        """Fixes the device, true float32 products and the threads of an operation.

        Raises:
            UnsupportedError: PyTorch sees no such device.
        """
        if settings.device == "gpu" and not torch.cuda.is_available():
            raise UnsupportedError(
                "PyTorch sees no GPU", where="pytorch", got=f"torch {torch.__version__}", expected="a CUDA device",
                next_step="install a build of torch for this GPU",
            )  # fmt: skip
        self._device = torch.device("cuda" if settings.device == "gpu" else "cpu")
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        reduce_products(False)
        # Shapes never change, so the search for the fastest convolution pays off at once.
        torch.backends.cudnn.benchmark = True
        pack_bfloat16()

    def modes(self, device: str) -> tuple[str, ...]:
        return MODES if device == "gpu" else MODES[:2]

    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> Model:
        """Makes the model.

        Raises:
            InputError: an unknown mode, or weights that do not fit.
            UnsupportedError: batch norm would train on a single value a channel, which PyTorch refuses; or there is no
                such LSTM on this processor.
        """
        modes = self.modes("gpu" if self.device.type == "cuda" else "cpu")
        require_choice(kind_of(mode), (*modes, TUNED), "pytorch.mode")
        if isinstance(workload.model, ResidualSpec) and workload.step != "inference":
            residual.check_batch_norm(workload.model, workload.batch_size)
        mixed_lstm = isinstance(workload.model, LstmSpec) and workload.dtype == "mixed_bfloat16"
        if mixed_lstm and self.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise UnsupportedError(
                "autocast's one LSTM in bfloat16, oneDNN's, does not run on this processor", where="pytorch.dtype",
                got=workload.dtype, next_step="use --dtype bfloat16 or float32",
            )  # fmt: skip
        reduce_products(workload.dtype == "tf32")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # Of the model before this one.
            mixed = isinstance(workload.model, RecurrentSpec) and workload.dtype == "mixed_bfloat16"
            if mixed and (found := autocast_of_recurrent(self.device)) != torch.bfloat16:
                raise UnsupportedError(
                    "autocast to bfloat16 runs cuDNN's recurrent layers in another dtype", where="pytorch.dtype",
                    got=str(found), next_step="use --dtype bfloat16 or float32",
                )  # fmt: skip
        make = own.model_class() if isinstance(workload.model, OwnSpec) else PyTorchModel
        return make(workload, weights, mode, self.device)

    def open_side(self, file: str, seed: int) -> dict[str, Any]:
        return own.describe_side(file, seed)

    def place(self, batch: Batch, dtype: str) -> PlacedBatch:
        # Always in the same order, which compiled code depends on.
        inputs = {name: place_array(batch.inputs[name], dtype, self.device) for name in sorted(batch.inputs)}
        placed = PlacedBatch(inputs, place_array(batch.targets, dtype, self.device))
        self.wait(placed)
        return placed

    def wait(self, value: Any) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def stream(self, count: int) -> Callable[[], torch.Tensor]:
        source = torch.ones(count, device=self.device)
        target = torch.empty_like(source)
        return lambda: target.copy_(source)

    def start_clock(self) -> Callable[[], float] | None:
        if self.device.type != "cuda":
            return None
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()

        def stop() -> float:
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3

        return stop

    def fetch(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return to_numpy(value)
        if isinstance(value, dict):
            return {name: self.fetch(item) for name, item in value.items()}
        if isinstance(value, (tuple, list)):
            items = [self.fetch(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    def memory(self) -> dict[str, int]:
        if self.device.type != "cuda":
            return {}
        return {
            "device_in_use_bytes": torch.cuda.memory_allocated(self.device),
            "device_peak_bytes": torch.cuda.max_memory_allocated(self.device),
            "device_reserved_bytes": torch.cuda.memory_reserved(self.device),
        }

    def describe(self) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy")},
            "device": torch.cuda.get_device_name(self.device) if on_gpu else torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "partial_sums_in_bfloat16": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
            "partial_sums_in_float16": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
            "mkl": torch.backends.mkl.is_available(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if on_gpu else None,
            "environment": {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)},
        }


class PyTorchModel(Model):
    """A torch.nn module with its optimiser, run eagerly or compiled.

    Compiled are the network (for `forward`) and the training loss (for `gradients` and `train_step`, each with its own
    backward pass); the optimiser is PyTorch's own fused kernel. `cuda-graphs` replays what `compile` runs in a step.

    Args:
        workload: what to compute.
        weights: canonical.
        mode: `eager`, `compile`, `cuda-graphs`, or `tuned`, whole or without a setting.
        device: where.
    """

    def __init__(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str, device: torch.device) -> None:
        self._workload = workload
        self._tuned = is_tuned(mode)
        self._by_hand = does(mode, BACKWARD) and workload.model.kind == "rnn" and device.type == "cpu"
        modes = TUNED_MODES_ON_GPU if device.type == "cuda" else TUNED_MODES
        self._mode = mode = modes[workload.model.kind] if self._tuned else mode
        self._family = FAMILIES[workload.model.kind]
        self._map: dict[str, tuple[str, tuple[int, ...]]] = self._family.weight_map(workload.model)
        self._device = device
        self._network = self._make_network(workload.model, device)
        self._held = self._network.state_dict(keep_vars=True)
        self._inputs = tuple(input_shapes(workload.model, workload.batch_size))
        self._trained = [self._held[self._map[name][0]] for name in trainable_names(workload.model)]
        self._norms = [module for module in self._network.modules() if isinstance(module, nn.BatchNorm2d)]
        self._variances = residual.RunningVariances(self._norms, workload.model) if self._norms else None
        self._phase = ""
        self._infer: Callable[..., torch.Tensor] = self._network
        self._mixed = workload.dtype == "mixed_bfloat16"
        self._loss: Callable[..., torch.Tensor] = self._make_loss()
        self._constant: FrozenNetwork | None = None
        self._graphs = StepGraphs(self._changing) if mode == "cuda-graphs" else None
        self._optimiser: torch.optim.Optimizer | None = None
        if mode in ("compile", "cuda-graphs"):
            allow_many_sizes()
            options: dict[str, Any] = {"dynamic": False, "fullgraph": workload.model.kind in ("dense", "residual")}
            self._infer = torch.compile(self._network, **options)
            self._loss = torch.compile(self._loss, **options)
            packs = device.type == "cpu" and torch.backends.mkldnn.is_available() and workload.dtype == "float32"
            self._constant = FrozenNetwork(self._network) if self._family.FREEZES and packs else None
        self._first_weights = {name: np.array(value) for name, value in weights.items()} if self._constant else {}
        self.reset(weights)

    def forward(self, batch: PlacedBatch) -> torch.Tensor:
        return self._run("inference", self._infer_batch, batch)

    def gradients(self, batch: PlacedBatch) -> tuple[torch.Tensor, ...]:
        return self._run("gradients", self._differentiate, batch)

    def train_step(self, batch: PlacedBatch) -> torch.Tensor:
        self._is_constant = False
        if self._optimiser is None:
            # Not before it is wanted: the first one imports TorchDynamo, a second that inference need not spend.
            self._optimiser = make_optimiser(self._workload.optimiser, self._trained, self._graphs is not None)
        return self._run("training", self._train, batch)

    def _run(self, phase: str, step: Step, batch: PlacedBatch) -> Any:
        self._enter(phase, len(batch.targets))
        return self._graphs.run(phase, step, batch) if self._graphs else step(batch)

    def _infer_batch(self, batch: PlacedBatch) -> torch.Tensor:
        with torch.inference_mode(), self._precision():
            if self._is_constant:
                return self._constant(batch.inputs)
            return self._infer(**batch.inputs)

    def _differentiate(self, batch: PlacedBatch) -> tuple[torch.Tensor, ...]:
        inputs = {name: value.detach().requires_grad_() for name, value in batch.inputs.items()}
        with self._precision():
            loss = self._loss(self._network, inputs, batch.targets)
        wanted = [*self._trained, *(inputs[name] for name in self._inputs)]
        # What the loss does not depend on is told of as missing.
        return loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True)

    def _train(self, batch: PlacedBatch) -> torch.Tensor:
        with self._precision():
            loss = self._loss(self._network, batch.inputs, batch.targets)
        loss.backward()
        self._optimiser.step()
        # At the end, so that nothing of this step is held during the next one.
        self._optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def weights(self) -> Weights:
        self._enter("inference")
        return {name: self._to_canonical(name, self._held[self._map[name][0]]) for name in self._map}

    def optimiser_state(self) -> dict[str, Weights]:
        names = trainable_names(self._workload.model)
        held = held_state(self._optimiser, self._workload.optimiser, self._trained)
        return {
            kind: {name: self._to_canonical(name, value) for name, value in zip(names, values, strict=True)}
            for kind, values in held.items()
        }

    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        check_weights(self._workload.model, weights)
        self._enter("inference")
        with torch.no_grad():
            for name, (path, axes) in self._map.items():
                self._held[path].copy_(torch.tensor(weights[name]).permute(axes))
        if self._graphs and self._optimiser:
            # Its graph goes on with the same tensors, and before the first step they would be zero.
            for value in state_tensors(self._optimiser):
                value.zero_()
        else:
            self._optimiser = None
        # Constants are not compiled anew: other weights are served by the graph that reads them.
        self._is_constant = self._constant is not None and all(
            np.array_equal(weights[name], value) for name, value in self._first_weights.items()
        )

    def canonical(self, gradients: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        names = trainable_names(self._workload.model)
        loss, by_weights, by_inputs = gradients[0], gradients[1 : len(names) + 1], gradients[len(names) + 1 :]
        return {
            "loss": to_numpy(loss),
            "weights": {
                name: value if value is None else self._to_canonical(name, value)
                for name, value in zip(names, by_weights, strict=True)
            },
            "inputs": {
                name: value if value is None else to_numpy(value)
                for name, value in zip(self._inputs, by_inputs, strict=True)
            },
        }

    def working_bytes(self, step: str, batch: PlacedBatch) -> int | None:
        """Of a graph, whose replays allocate nothing that a peak would count."""
        return self._graphs.working_bytes(step, batch) if self._graphs else None

    def trace(self, batch: PlacedBatch, training: bool) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        self._enter("inference")
        for spec in depths(self._workload.model):
            network = self._make_network(spec, batch.targets.device).train(training)
            network.load_state_dict({name: self._held[name] for name in network.state_dict()})
            for path, name in self._family.traced_modules(spec).items():
                network.get_submodule(path).register_forward_hook(recorder(found, name))
            inputs = dict(batch.inputs)
            for name in inputs.keys() - {"x"}:
                inputs[name] = inputs[name][: spec.num_layers]
            with torch.no_grad(), self._precision():
                network(**inputs)
        return found

    def describe(self) -> dict[str, Any]:
        kernel = (
            "fused kernel" if is_fused(self._workload.optimiser, self._trained[0]) else "one kernel for each operation"
        )
        compiled: dict[str, str] | str = "nothing"
        if self._mode != "eager":
            compiled = dict(self._family.COMPILED)
            if self._graphs:
                compiled["launched as"] = "one CUDA graph a step and batch, which is read where it lies"
            if self._is_constant:
                compiled["forward"] = "whole, weights as constants in the layout of oneDNN's kernels"
        return {
            **self._family.LEDGER,
            **({"runs as": self._mode} if self._tuned else {}),
            **weights_of_recurrent(self._network),
            "kernels": self._kernels(),
            "precision": self._precision_in_force(),
            "compiled": compiled,
            "optimiser": f"{self._workload.optimiser.kind}, {kernel}, {'in the graph' if self._graphs else 'eager'}",
        }

    def _kernels(self) -> dict[str, int]:
        """Operations of one eager forward pass on one example, and how often each is called; views left out."""
        self._enter("inference")
        shapes = input_shapes(self._workload.model, 1)
        inputs = {name: torch.zeros(shape).to(self._trained[0]) for name, shape in shapes.items()}
        with torch.no_grad(), self._precision(), OperationCounter() as counter:
            self._network(**inputs)
        return dict(counter.calls)

    def _make_loss(self) -> Callable[..., torch.Tensor]:
        return training_loss

    def _make_network(self, spec: ModelSpec, device: torch.device) -> nn.Module:
        network = tuned.Rnn(spec) if self._by_hand else self._family.Network(spec)
        return network.to(device=device, dtype=getattr(torch, self._workload.storage_dtype))

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._mixed else nullcontext()

    def _precision_in_force(self) -> str:
        if self._mixed:
            return "autocast to bfloat16, weights in float32"
        reduced = torch.get_float32_matmul_precision() != "highest" or torch.backends.cudnn.allow_tf32
        return "TF32 products" if reduced and self._device.type == "cuda" else self._workload.dtype

    def _enter(self, phase: str, batch_size: int = 0) -> None:
        if phase == "training" and self._variances:
            self._variances.make_unbiased(batch_size)
        if phase != self._phase:
            self._network.train(phase != "inference")
            for norm in self._norms:
                norm.track_running_stats = phase != "gradients"
            if phase != "training" and self._variances:
                self._variances.make_biased()
            self._phase = phase

    def _changing(self) -> Iterator[torch.Tensor]:
        """What a training step changes."""
        yield from self._held.values()
        if self._optimiser:
            yield from state_tensors(self._optimiser)

    def _to_canonical(self, name: str, value: torch.Tensor) -> np.ndarray:
        # argsort inverts a permutation of axes.
        return to_numpy(value.permute(*np.argsort(self._map[name][1]).tolist()))


def training_loss(network: nn.Module, inputs: dict[str, torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """Mean softmax cross-entropy over all examples, and all time steps if there are logits for each."""
    logits = network(**inputs)
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())
