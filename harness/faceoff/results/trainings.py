"""Records of a result file on training: on real data, and of gradients through time."""

from __future__ import annotations

from pydantic import FiniteFloat, model_validator

from faceoff.core.errors import Outcome
from faceoff.results.costs import Record
from faceoff.results.types import Count, Positive, Probability, WorkloadData


class TrainingRun(Record):
    """A contender trained on real data from the same weights over the same batches as the reference.

    Attributes:
        task: such as `lstm on digits, row by row`.
        losses: before every step; null entries were not finite. `reference_losses` and `noise` end where they are not.
        noise: per step, the spread of the reference's loss under rounding (rms over the noise runs).
        noise_units: largest distance from the reference in units of that spread.
        loss_error: largest difference in loss over the reference's loss of the same step; null when not finite.
        accuracy, reference_accuracy: share of right answers on test data that was not trained on.
        rare_from: the first step whose `noise` allows for events too rare for the noise runs, as a flipped ReLU is, and
            is the spread of runs disturbed many times as much; None where there is no such step.
        accuracy_noise: largest difference in accuracy between the reference and its noise runs.
        again: the command that repeats it; empty where no command runs this task alone.
    """

    task: str
    workload: WorkloadData
    contender: str
    outcome: Outcome
    reason: str = ""
    losses: list[float | None] = []
    reference_losses: list[FiniteFloat] = []
    noise: list[FiniteFloat] = []
    rare_from: Count | None = None
    noise_units: float | None = None
    loss_error: float | None = None
    limit: float = 0.0
    accuracy: Probability | None = None
    reference_accuracy: Probability | None = None
    accuracy_noise: Probability = 0.0
    again: str = ""


class GradientNorms(Record):
    """A contender's norm of dLoss/dh_t over the time steps of one recurrent model, as W_hh and forget gate were set.

    Attributes:
        workload: model, batch size and dtype; the model has the whole sequence length.
        spectral_radius: of W_hh; of an LSTM's four gates, the largest.
        forget_bias: of an LSTM's forget gate, all other biases being nearly 0; None for a model without one and in
            older files, where it was nearly 0 too.
        time_steps: the t, ascending, 0 being the initial state; the lists below follow their order.
        norms: Euclidean, over all examples and hidden units, of the mean loss's gradient; null when not finite.
        reference_norms: the float64 reference's.
        noise: the reference's rounding noise of the gradient, rms over its elements.
        distances: rms error in noise units; null when not finite.
        limit: what each distance may reach.
        underflow: the t at which the gradient is too small for the dtype: recorded, not judged.
        again: the command that repeats it.
    """

    workload: WorkloadData
    spectral_radius: Positive
    forget_bias: FiniteFloat | None = None
    contender: str
    outcome: Outcome
    reason: str = ""
    time_steps: list[Count] = []
    norms: list[float | None] = []
    reference_norms: list[float | None] = []
    noise: list[float] = []
    distances: list[float | None] = []
    limit: float = 0.0
    underflow: list[Count] = []
    again: str = ""

    @property
    def setting(self) -> str:
        """What was set, in words: `spectral radius 0.5`, and of an LSTM `forget-gate bias 2, spectral radius 0.5`."""
        radius = f"spectral radius {self.spectral_radius:g}"
        return radius if self.forget_bias is None else f"forget-gate bias {self.forget_bias:g}, {radius}"

    @model_validator(mode="after")
    def _lists_follow_the_time_steps(self) -> GradientNorms:
        lengths = {len(self.norms), len(self.reference_norms), len(self.noise), len(self.distances)}
        if lengths - {0, len(self.time_steps)}:
            raise ValueError(f"lists of other lengths than its {len(self.time_steps)} time steps")
        if len(self.norms) != len(self.distances):
            raise ValueError("a distance for each of its norms, and no other")
        if not set(self.underflow) <= set(self.time_steps):
            raise ValueError("an underflow at a time step that is not there")
        return self
