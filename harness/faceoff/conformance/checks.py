"""What is asked of a live worker, one promise at a time; each function raises `Broken` where it is not kept.

Whether values are right is not asked here: that is the check of agreement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.agreement.quantities import named_gradients
from faceoff.core.errors import WorkerError
from faceoff.core.spec import MODEL_KINDS, OPTIMISERS, Contender, Optimiser, Workload
from faceoff.core.weights import carrier_dtype, trace_names, trainable_names
from faceoff.frameworks.manifest import Framework
from faceoff.pool.worker import Worker
from faceoff.workloads.presets import PRESETS, Sized
from faceoff.workloads.task import Task

# Calls of a round that must take longer than one call does.
MANY = 40
# Of memory that a process may keep after a model was built anew as often.
REBUILDS, KEPT_BYTES = 6, 64 * 2**20
# Processor time over time, for one thread; the kernel counts short times coarsely.
MOST_BUSY, LEAST_BUSY_S = 1.5, 0.1
# A first step adds nothing to zero but its own gradient. In narrow dtypes 1 - 0.999 keeps few digits.
FIRST_STEP, FIRST_STEP_NARROW = 1e-10, 0.02
# Values that are as exact as float64 although float32 was asked for.
SUSPICIOUSLY_EXACT = 1e-10


class Broken(Exception):
    """A promise that is not kept; its text says what was got and what was expected."""


@dataclass
class Subject:
    """A contender with a live worker, and the model that a check is made with.

    Attributes:
        framework: as its manifest describes it.
        contender: one of its modes.
        worker: asks for its live worker; a fresh one if the last one died.
        sized: a model that it offers.
        dtype: of the checks that need one alone; the widest that is offered unless given.
    """

    framework: Framework
    contender: Contender
    worker: Callable[[], Worker]
    sized: Sized
    dtype: str = ""
    _held: tuple[int, Workload] | None = None

    def build(
        self, dtype: str = "", optimiser: Optimiser | None = None, fresh: bool = False
    ) -> tuple[dict[str, np.ndarray], Task]:
        """Builds the model, and loads its batches; returns its weights as they were given, and the task.

        Unless `fresh`, a model like it that the worker holds is reset instead, so that nothing is compiled twice.
        """
        dtype = dtype or self.dtype or self.framework.can.widest
        task = Task.seeded(Workload(self.sized.model, self.sized.batch_size, optimiser=optimiser or Optimiser()), 0)
        weights, batches = task.cast(dtype)
        workload = task.workload.replace(dtype=dtype)
        worker = self.worker()
        wanted = (worker.process_id, workload)
        if self._held == wanted and not fresh:
            worker.request("reset", weights=weights)
        else:
            self._held = None
            worker.request("build", workload=workload.to_json(), mode=self.contender.mode, weights=weights)
            self._held = wanted
        worker.request("load", batches=[batch.to_json() for batch in batches])
        return weights, task

    def ask(self, kind: str, **body: Any) -> dict[str, Any]:
        """A request to the worker."""
        return self.worker().request(kind, **body)


def _same(expected: Mapping[str, Any], got: Mapping[str, Any], what: str, tolerance: float = 0.0) -> None:
    if set(expected) != set(got):
        raise Broken(f"{what}: got {sorted(got)}, expected {sorted(expected)}")
    for name, value in expected.items():
        if np.shape(got[name]) != np.shape(value):
            raise Broken(f"{what}: {name!r} has the shape {np.shape(got[name])}, expected {np.shape(value)}")
        scale = float(np.max(np.abs(value), initial=0.0)) or 1.0
        difference = np.max(np.abs(np.asarray(got[name], float) - np.asarray(value, float)), initial=0.0)
        if not difference <= tolerance * scale:
            raise Broken(f"{what}: {name!r} differs by {difference:.3g}")


def starts_as_declared(subject: Subject) -> None:
    """It starts with the modes of its manifest, and says what is in force."""
    reply = subject.worker().start_reply
    declared = set(subject.framework.modes_on("cpu"))
    if set(reply["modes"]) != declared:
        raise Broken(f"modes: got {sorted(reply['modes'])}, the manifest has {sorted(declared)}")
    if not reply["settings"] or json.loads(json.dumps(reply["settings"])) != reply["settings"]:
        raise Broken("describe() says nothing of what is in force, or what no JSON can hold")
    subject.build()
    if not subject.ask("describe")["ledger"]:
        raise Broken("the model's describe() says nothing")


def weights_round_trip(subject: Subject) -> None:
    """Weights come back to the last bit, in every dtype that there is on this processor or card."""
    for dtype in (name for name in subject.framework.can.dtypes if name != "tf32"):
        try:
            weights, _ = subject.build(dtype, fresh=True)
        except WorkerError as error:
            # Instructions for a narrow dtype are not everywhere, and a framework then says so; float32 is.
            if error.outcome != "unsupported" or dtype in ("float64", "float32"):
                raise
            continue
        got = subject.ask("weights")
        _same(weights, got, f"weights after `build` in {dtype}")
        if wrong := {str(value.dtype) for value in got.values()} - {carrier_dtype(dtype)}:
            expected = carrier_dtype(dtype)
            raise Broken(f"weights in {dtype} come as {', '.join(sorted(wrong))}, expected {expected}")


def gradients_change_nothing(subject: Subject) -> None:
    """A gradient of every weight, and no weight moved by asking."""
    weights, _ = subject.build()
    found = set(subject.ask("gradients", index=0)["weights"])
    if found != (names := set(trainable_names(subject.sized.model))):
        raise Broken(f"gradients: got those of {sorted(found)}, expected {sorted(names)}")
    _same(weights, subject.ask("weights"), "weights after `gradients`")


def results_stay(subject: Subject) -> None:
    """No call writes into what another one returned, and none returns what another one did."""
    subject.build()
    (alone,) = subject.ask("forward", indices=[0])["outputs"]
    first, again, other, between, _ = subject.ask("forward", indices=[0, 0, 1, 0, 1])["outputs"]
    if not all(np.array_equal(alone, value) for value in (first, again, between)):
        raise Broken("outputs: the same call gave another value")
    if np.array_equal(first, other):
        raise Broken("outputs: another batch gave the same value")
    if "gradients" not in subject.framework.can.steps:
        return
    one = named_gradients(subject.ask("gradients", index=0))
    _same(one, named_gradients(subject.ask("gradients", index=0, before=1, after=1)), "gradients between others", 1e-4)


def new_batches_are_computed(subject: Subject) -> None:
    """A timed call on a batch that was never seen gives that batch's value, whatever was computed before."""
    weights, task = subject.build()
    (known,) = subject.ask("forward", indices=[0])["outputs"]
    turned = np.arange(subject.sized.batch_size)[::-1]
    dtype = carrier_dtype(subject.dtype or subject.framework.can.widest)
    new = task.batches[0].pick(turned).astype(dtype).to_json()
    for other in ({}, {"weights": weights, "other": {name: value / 2 for name, value in weights.items()}}):
        for step in [step for step in ("inference", "gradients") if step in subject.framework.can.steps]:
            for new_first in (False, True):
                asked = {"step": step, "batch": new, "seen": 1, "new_first": new_first, "warmup": 2}
                found = subject.ask("time_new", **asked, **other)
                if min(found["seen_ns"], found["new_ns"]) <= 0:
                    raise Broken(f"{step}: a call took no time")
                if step == "inference":
                    value = subject.ask("last_value", step=step)["value"]
                    _same({"outputs": known[turned]}, {"outputs": value}, "a batch turned round", 1e-4)
    _same(weights, subject.ask("weights"), "weights after calls on new batches")


def training_moves(subject: Subject) -> None:
    """Training lowers the loss, moves every weight, and is seen by the next forward pass."""
    weights, _ = subject.build()
    before = subject.ask("forward", indices=[0])["outputs"][0]
    losses = subject.ask("train", indices=[0, 0, 0])["losses"]
    moved = subject.ask("weights")
    if not losses[2] < losses[0]:
        raise Broken(f"training: the losses are {', '.join(f'{loss:.4g}' for loss in losses)}, expected falling ones")
    if still := [name for name in weights if np.array_equal(weights[name], moved[name])]:
        raise Broken(f"training left {', '.join(still)} where they were")
    if np.array_equal(before, subject.ask("forward", indices=[0])["outputs"][0]):
        raise Broken("outputs: the same after training as before")


def reset_is_whole(subject: Subject) -> None:
    """`reset` brings back weights, outputs and a fresh state of every optimiser."""
    weights, _ = subject.build()
    before = subject.ask("forward", indices=[0])["outputs"][0]
    subject.ask("reset", weights={name: value / 2 for name, value in weights.items()})
    if np.array_equal(before, subject.ask("forward", indices=[0])["outputs"][0]):
        raise Broken("outputs: the same after a reset to other weights")
    subject.ask("reset", weights=weights)
    _same({"outputs": before}, {"outputs": subject.ask("forward", indices=[0])["outputs"][0]}, "after a reset", 1e-6)
    for kind in subject.framework.can.optimisers if "training" in subject.framework.can.steps else ():
        rule = Optimiser(kind)
        weights, _ = subject.build(optimiser=rule)
        if tuple(state := subject.ask("optimiser_state")) != rule.state_names:
            raise Broken(f"state of {kind}: got {sorted(state)}, expected {list(rule.state_names)}")
        losses = subject.ask("train", indices=[0, 1, 2])["losses"]
        trained = subject.ask("weights")
        subject.ask("reset", weights=weights)
        _same(weights, subject.ask("weights"), f"weights after a reset ({kind})")
        if any(value.any() for arrays in subject.ask("optimiser_state").values() for value in arrays.values()):
            raise Broken(f"state of {kind}: not zero after a reset")
        again = subject.ask("train", indices=[0, 1, 2])["losses"]
        if not np.allclose(again, losses, rtol=1e-5):
            raise Broken(f"losses after a reset ({kind}): got {again}, expected {losses}")
        _same(trained, subject.ask("weights"), f"weights trained again after a reset ({kind})", 1e-4)


def optimisers_keep_state(subject: Subject) -> None:
    """A fresh optimiser's state is zero; after a first step it is made of that step's gradient."""
    widest = subject.framework.can.widest
    tolerance = FIRST_STEP if widest == "float64" else FIRST_STEP_NARROW
    for kind in subject.framework.can.optimisers:
        rule = Optimiser(kind)
        if not rule.state_names:
            continue
        subject.build(widest, rule)
        if any(value.any() for arrays in subject.ask("optimiser_state").values() for value in arrays.values()):
            raise Broken(f"state of {kind}: not zero before the first step")
        gradients = subject.ask("gradients", index=0)["weights"]
        subject.ask("train", indices=[0])
        made: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "momentum": lambda g: g,
            "first moment": lambda g, rule=rule: (1 - rule.beta1) * g,  # type: ignore[misc]
            "second moment": lambda g, rule=rule: (1 - rule.beta2) * g**2,  # type: ignore[misc]
        }
        for name, arrays in subject.ask("optimiser_state").items():
            expected = {weight: made[name](np.asarray(g, float)) for weight, g in gradients.items()}
            _same(expected, arrays, f"{name} of {kind} after a step", tolerance)


def trace_has_all_names(subject: Subject) -> None:
    """Intermediate values by name, in order; asking for them changes nothing."""
    weights, _ = subject.build()
    for training in (False, True) if "gradients" in subject.framework.can.steps else (False,):
        for fine in (False, True):
            values = subject.ask("trace", index=0, training=training, fine=fine)["values"]
            names = [name for name, _ in values]
            if names != (expected := list(trace_names(subject.sized.model, fine=fine))):
                raise Broken(f"trace: got {names}, expected {expected}")
            if wrong := [name for name, value in values if not np.isfinite(value).all()]:
                raise Broken(f"trace: not finite: {', '.join(wrong)}")
            if not training:
                (outputs,) = subject.ask("forward", indices=[0])["outputs"]
                _same({"outputs": outputs}, {"outputs": values[-1][1]}, "the trace's last value", 1e-4)
    _same(weights, subject.ask("weights"), "weights after `trace`")


def timed_calls_compute(subject: Subject) -> None:
    """A timed round takes longer with more calls, keeps to one thread, and leaves a value."""
    _, task = subject.build()
    for step in subject.framework.can.steps:
        ones = [subject.ask("time", step=step, warmup=2, iterations=1, start=0) for _ in range(10)]
        many = subject.ask("time", step=step, warmup=0, iterations=MANY, start=1)
        # The shortest of several: a single call may be held up.
        if not 0 < min(one["duration_ns"] for one in ones) < many["duration_ns"]:
            raise Broken(f"{step}: {MANY} calls take no longer than one")
        if many["last_batch"] != MANY % len(task.batches):
            raise Broken(f"{step}: the last call was on batch {many['last_batch']}")
        busy = many["cpu_s"] / (many["duration_ns"] / 1e9)
        if many["cpu_s"] > LEAST_BUSY_S and busy > MOST_BUSY:
            raise Broken(f"{step}: {busy:.1f} processors busy, expected one thread")
        value = subject.ask("last_value", step=step)
        values = named_gradients(value) if step == "gradients" else value
        if not all(np.isfinite(v).all() for v in values.values()):
            raise Broken(f"{step}: the value of the last timed call is not finite")


def dtypes_are_what_they_say(subject: Subject) -> None:
    """What is computed in float32 is not computed in float64; that float64 is float64 is for agreement to say."""
    if not {"float64", "float32"} <= set(subject.framework.can.dtypes):
        return
    found = {}
    for dtype in ("float64", "float32"):
        # From weights and batches that both dtypes hold.
        subject.build(dtype)
        found[dtype] = np.asarray(subject.ask("forward", indices=[0])["outputs"][0], float)
    scale = float(np.abs(found["float64"]).max()) or 1.0
    distance = float(np.abs(found["float32"] - found["float64"]).max()) / scale
    if distance < SUSPICIOUSLY_EXACT:
        raise Broken(f"float32 outputs are within {distance:.1g} of float64's: one is computed as the other")


def memory_is_given_back(subject: Subject) -> None:
    """A model that is built anew again and again takes no more memory."""
    subject.build(fresh=True)
    subject.build(fresh=True)
    told = subject.ask("memory")
    if wrong := [name for name, value in told.items() if not isinstance(value, int)]:
        raise Broken(f"memory: {', '.join(wrong)} are no whole numbers of bytes")
    before = told["host_in_use_bytes"]
    for _ in range(REBUILDS):
        subject.build(fresh=True)
    kept = subject.ask("memory")["host_in_use_bytes"] - before
    if kept > KEPT_BYTES:
        raise Broken(f"{kept / 2**20:.0f} MiB more after {REBUILDS} builds of the same model")


def bad_input_is_refused(subject: Subject) -> None:
    """An unknown mode is an error, and not another mode; the worker lives on."""
    worker = subject.worker()
    task = Task.seeded(Workload(subject.sized.model, subject.sized.batch_size), 0)
    weights, _ = task.cast(subject.framework.can.widest)
    workload = task.workload.replace(dtype=subject.framework.can.widest).to_json()
    try:
        worker.request("build", workload=workload, mode="no-such-mode", weights=weights)
    except WorkerError:
        if not worker.alive:
            raise Broken("an unknown mode ends the process") from None
        return
    raise Broken("an unknown mode is built as if it were one")


def nothing_more_works(subject: Subject) -> None:
    """What is not declared is refused, so that the manifest says all that there is."""
    can, widest = subject.framework.can, subject.framework.can.widest
    small = {sized.model.kind: sized for sized in PRESETS["small"].sized}
    tried: list[tuple[str, Workload]] = [
        *(
            (f"{kind} models", _workload(small[kind], subject.framework.can.widest))
            for kind in MODEL_KINDS
            if kind not in can.models
        ),
        *(
            (dtype, _workload(subject.sized, dtype))
            for dtype in ("float64", "float32", "bfloat16", "float16")
            if dtype not in can.dtypes
        ),
        *(
            (kind, _workload(subject.sized, widest).replace(optimiser=Optimiser(kind)))
            for kind in OPTIMISERS
            if kind not in can.optimisers and "training" in can.steps
        ),
    ]
    for what, workload in tried:
        weights, batches = Task.seeded(workload, 0).cast(workload.dtype)
        worker = subject.worker()
        try:
            worker.request("build", workload=workload.to_json(), mode=subject.contender.mode, weights=weights)
            worker.request("load", batches=[batch.to_json() for batch in batches])
            worker.request("forward", indices=[0])
            if "training" in can.steps:
                worker.request("train", indices=[0])
        except WorkerError:
            continue
        raise Broken(f"{what}: they work, and the manifest does not say so: add them to [can], or refuse them")
    for step, kind, body in (
        ("gradients", "gradients", {"index": 0}),
        ("training", "train", {"indices": [0]}),
        ("trace", "trace", {"index": 0, "training": False}),
    ):
        if step in can.steps or (step == "trace" and can.trace):
            continue
        # What was refused above has left the worker without a model.
        subject.build(fresh=True)
        try:
            subject.ask(kind, **body)
        except WorkerError:
            continue
        raise Broken(f"{step}: works, and the manifest does not say so: add it to [can], or refuse it")


def _workload(sized: Sized, dtype: str) -> Workload:
    return Workload(sized.model, sized.batch_size, dtype, optimiser=Optimiser("sgd"), step="training")


# In the order in which their author wants to know. The last are asked of one model alone.
OF_EACH_MODEL: tuple[Callable[[Subject], None], ...] = (
    weights_round_trip, gradients_change_nothing, results_stay, new_batches_are_computed, training_moves,
    reset_is_whole, optimisers_keep_state, trace_has_all_names, timed_calls_compute, dtypes_are_what_they_say,
    memory_is_given_back,
)  # fmt: skip
OF_ONE_MODEL: tuple[Callable[[Subject], None], ...] = (starts_as_declared, bad_input_is_refused, nothing_more_works)


def is_asked(check: Callable[[Subject], None], framework: Framework) -> bool:
    """Whether a check is of something that a framework declares."""
    wanted: dict[Any, str] = {
        gradients_change_nothing: "gradients", training_moves: "training", optimisers_keep_state: "training",
    }  # fmt: skip
    if check is trace_has_all_names:
        return framework.can.trace
    return wanted.get(check, "inference") in framework.can.steps


def name_of(check: Callable[[Subject], None]) -> str:
    """`weights round trip`, ..."""
    return check.__name__.replace("_", " ")


def files_in(folder: Path) -> set[str]:
    """Every file below a folder, by its path there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
