"""What a framework supplies: a Runtime that builds Models. The verbs cut where the clock starts and stops.

`__init__.py` in a framework's folder binds `RUNTIME`, an instance of its Runtime. An implementation that lacks a
method is refused by that method's name when it is made (`abc`). Gradients, training and the outputs of layers are
offered or not, as the framework's manifest says (`[can]`); their methods refuse unless they are written.

Two additions to a minimal interface, each for a reason: `Model.reset` starts again from given weights without compiling
anew, and `Model.canonical` maps gradients to canonical names outside the timed call. The device's own clock is
there for frameworks that reach it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from faceoff.core.errors import UnsupportedError
from faceoff.core.spec import Workload
from faceoff.core.weights import Batch, Weights

# What `Model.stages` tells: to compile, or to load what was compiled before; to copy the inputs to the device; to run
# what computes there; to copy the outputs back; and the last three with all that lies between, by the host's clock.
STAGES = ("build", "copy to device", "kernels", "copy back", "whole")


@dataclass(frozen=True)
class Settings:
    """What `Runtime.configure` fixes for the life of a worker.

    Args:
        device: `cpu` or `gpu`.
        threads: number of threads that a single operation may use.
        seed: seed of the framework's own generators, should a model draw anything.
    """

    device: str
    threads: int
    seed: int = 0


class Runtime(ABC):
    """A framework, in one process."""

    @abstractmethod
    def configure(self, settings: Settings) -> None:
        """Fixes device, precision policy (true float32), threads and determinism. Called once, first; not timed.

        Raises:
            UnsupportedError: the device is not there.
        """

    @abstractmethod
    def modes(self, device: str) -> Tuple[str, ...]:
        """The modes it offers on `device`."""

    @abstractmethod
    def build(self, workload: Workload, weights: Mapping[str, np.ndarray], mode: str) -> "Model":
        """Makes the model from canonical weights, in the workload's dtype. Part of the cold start only."""

    def open_side(self, file: str, seed: int) -> Dict[str, Any]:
        """Builds a user's own model from its file, to say what it holds.

        Args:
            file: its path; a function `build()` in it, without arguments, returns the model.
            seed: of the framework's own generators, from which the model's initial weights come.

        Returns:
            `weights`: of each weight and running statistic, in order, a dict: its `path`, the kind of the `layer` that
            it belongs to (`linear`, `convolution`, `transposed convolution`, `norm`, `embedding`, `recurrent`,
            `attention`, `einsum`, or empty where not known), its `part` there (`weight`, `bias`, `scale`, `mean`,
            `variance`, `weight_ih`, ...), and `axes`, the permutation of the canonical axes that makes the side's. Two
            more keys may be there: `stacked`, the names of the equal parts that lie one after the other along the first
            canonical axis (`i f g o`, `z r n`, `query key value`), and `trained`, false for a running statistic.
            `arrays`: their initial values by path, as the side has them, float32.
            `loss`: whether the file has a function `loss` of outputs and targets.
        """
        raise UnsupportedError("no models of users' own", where=type(self).__name__)

    @abstractmethod
    def place(self, batch: Batch, dtype: str) -> Any:
        """Host arrays to the device, floating-point ones in `dtype`, and waits. Not timed."""

    @abstractmethod
    def wait(self, value: Any) -> None:
        """Blocks until the device has computed `value`. Always timed."""

    @abstractmethod
    def fetch(self, value: Any) -> Any:
        """Device to host: native arrays to NumPy, dicts, tuples and lists kept; bfloat16 as float32. Not timed."""

    @abstractmethod
    def memory(self) -> Dict[str, int]:
        """Bytes on a GPU, in use and at peak: `device_in_use_bytes`, `device_peak_bytes`, ... Not timed."""

    def forget_peak(self) -> None:
        """From now on `memory` gives the device's peaks since now; one that cannot be had so is left out there."""
        return

    @abstractmethod
    def stream(self, count: int) -> Callable[[], Any]:
        """A call that reads `count` float32 numbers on the device and writes as many: what its memory does at best."""

    def start_clock(self) -> Optional[Callable[[], float]]:
        """Starts the device's own clock behind the work it was given so far; what it returns stops it, waits, and says
        how many seconds the device counted. None where a framework reaches no such clock.
        """
        return None

    @abstractmethod
    def describe(self) -> Dict[str, Any]:
        """Versions and switches that ARE in force, not those asked for, as JSON values. Not timed."""


class Model(ABC):
    """One model in one mode, with its weights and optimiser state. `batch` is what `Runtime.place` returned."""

    @abstractmethod
    def forward(self, batch: Any) -> Any:
        """The logits, in inference mode: running statistics, no backward pass recorded, the weights now held."""

    def gradients(self, batch: Any) -> Any:
        """Loss and gradients, in training mode (batch statistics), as native values for `canonical`.

        By every trained weight and every input (`x` and the initial states). Changes no weight or running statistic.
        """
        raise UnsupportedError("no gradients", where=type(self).__name__)

    def train_step(self, batch: Any) -> Any:
        """One optimiser step in place, running statistics updated too; returns the loss before the step."""
        raise UnsupportedError("no training", where=type(self).__name__)

    @abstractmethod
    def weights(self) -> Weights:
        """Weights and running statistics now held: canonical names and layouts, NumPy, copies; bfloat16 as float32."""

    def optimiser_state(self) -> Dict[str, Weights]:
        """What the optimiser now holds, by `Optimiser.state_names`: one array for every trained weight, as `weights`.

        Each as `faceoff.reference.optimiser` means it. Zeros before the first step, made or not.
        """
        raise UnsupportedError("no training", where=type(self).__name__)

    @abstractmethod
    def reset(self, weights: Mapping[str, np.ndarray]) -> None:
        """Takes canonical weights and a fresh optimiser state; compiled code stays."""

    def canonical(self, gradients: Any) -> Dict[str, Any]:
        """What `gradients` returned as `{"loss": scalar, "weights": {name: array}, "inputs": {name: array}}`, NumPy.

        None in the place of a gradient that is not there, because the loss does not depend on what it is by.
        """
        raise UnsupportedError("no gradients", where=type(self).__name__)

    def disturb(self, dtype: str, unit_roundoff: Optional[float], seed: int, alike: bool) -> None:
        """From now on forward, gradients and training run in stochastic arithmetic, until the next `disturb` or build.

        For a model in float64 that runs eagerly. Everything else that is promised holds.

        Args:
            dtype: whose rounding is imitated.
            unit_roundoff: in place of that of `dtype`; 0.0: the same operations, undisturbed.
            seed: of the disturbances.
            alike: equal values are rounded alike.
        """
        raise UnsupportedError("no stochastic arithmetic", where=type(self).__name__)

    def left_whole(self) -> Dict[str, int]:
        """How often each operation could not be taken apart since the model was disturbed, and got one rounding."""
        return {}

    def met_limits(self) -> bool:
        """Whether the range of the dtype mattered to any number since the model was disturbed.

        Where not, roundings of the same size would have been the same in any wider dtype. True where that is not known.
        """
        return True

    def operations(self, step: str, batch: Any) -> Optional[int]:
        """Multiplications and additions in the matrix products and convolutions of a call of `step`.

        By the framework's own counter; None where it has none, or cannot look into all that is called. For a model in
        float64 that runs eagerly. It may change the weights, as training does.
        """
        return None

    def working_bytes(self, step: str, batch: Any) -> Optional[int]:
        """Bytes that a call of `step` takes on the device at most beyond what is in use before it.

        For whoever's own peak cannot be had for the timed calls alone; None where `Runtime.memory` has it.
        """
        return None

    def stages(self, batch: Any) -> Optional[Dict[str, float]]:
        """Seconds of each of `STAGES` in one inference that begins and ends in host memory, copies and kernels by the
        device's clock. None for whoever does not tell them apart.
        """
        return None

    def trace(self, batch: Any, training: bool) -> Dict[str, np.ndarray]:
        """Intermediate values by the fine `faceoff.core.weights.trace_names`, canonical layouts, NumPy.

        A second run outside the timed graph; `training` selects batch statistics. Changes nothing.
        """
        raise UnsupportedError("no outputs of layers", where=type(self).__name__)

    def layers(self, batch: Any, training: bool, forced: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        """What each layer of a user's own model is given and returns, in one run of the model. Changes nothing.

        Layers are the parts of the model that hold weights, themselves or in parts of theirs, and those that the port
        names; the whole model is none. What is called in a loop that the framework compiles is left out.

        Args:
            training: batch statistics.
            forced: by name of a layer: `inputs` and `outputs`, NumPy arrays or None, which take the place of its own
                once these are recorded; None leaves one as it is.

        Returns:
            `outputs`: as `forward` returns them. `layers`: a dict for each call, in the order in which they end:
            `name`, the path, and from its second call on `#2` and so on behind it; `kind`, as in `Runtime.open_side`,
            and empty where it may do more than that, such as an activation of its own; `entered` and `left`, numbers
            that rise from event to event; `inputs` and `outputs`, its arrays, each once, NumPy, in the side's layout.
        """
        raise UnsupportedError("its layers cannot be recorded", where=type(self).__name__)

    def dropouts(self, batch: Any) -> List[Dict[str, Any]]:
        """The calls of dropout layers in one run of a user's own model in training mode, in their order.

        Layers with a rate of zero, and dropout inside attention and recurrent layers, which stays off, are none.

        Returns:
            Of each call `layer`, its path; `shape` of what it is given; `rate`, the share that it leaves out; and
            `channels`, the axis of channels where the layout has one, or None.

        Raises:
            UnsupportedError: one of them does more than leave elements out.
        """
        raise UnsupportedError("dropout cannot be told masks", where=type(self).__name__)

    @abstractmethod
    def describe(self) -> Dict[str, Any]:
        """The case's part of the fairness ledger: kernel (fused or loop), layout, what was compiled, as JSON values."""
