"""What a run was asked for, checked before anything starts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceoff.agreement.quantities import Detail
from faceoff.core.errors import InputError
from faceoff.core.own import port_of
from faceoff.core.precision import ADAMS, DTYPES
from faceoff.core.spec import (
    OPTIMISERS,
    STEPS,
    Contender,
    Optimiser,
    OwnSpec,
    Workload,
    require_choice,
    require_size,
)
from faceoff.frameworks.configuration import Configuration, read_configuration
from faceoff.frameworks.contenders import parse_contenders, parse_frameworks
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.machine.processor import allowed_cores, describe_quota, usable_cores
from faceoff.pool.devices import device_name, parse_device, resolve_device
from faceoff.pool.environment import describe_left_out
from faceoff.results.agreements import EVERYDAY
from faceoff.run.out_folder import prepare_folder
from faceoff.run.own_models import choose_models, having_sides, name_sides
from faceoff.speed.budget import Budget, parse_budget
from faceoff.system.texts import require_utf8
from faceoff.workloads.presets import PRESETS, Sized
from faceoff.workloads.situations import SITUATIONS, by_default

DEFAULT_STEPS = ("inference", "training")
LONG_TRAINING_STEPS = 200
WITH_ADAM = frozenset({"float64", "float32", "tf32", "mixed_bfloat16"})
# Where time is no measure, more is looked at.
DEFAULT_PRESETS = {"agree": "coverage"}


@dataclass(frozen=True)
class Options:
    """Everything that decides what a run does; made by `make_options`.

    Args:
        command: `compare`, `agree` or `bench`.
        workloads: model, batch size, dtype and device of each; their step is `training`.
        contenders: who runs them.
        steps: what is timed.
        dtypes: checked for agreement; float64 for the meaning, others for the precision.
        seed, threads, device, card, preset, models, batch_sizes, sequence_lengths, hidden_sizes, names, optimiser: as
            asked for.
        out: folder of result, page and logs.
        data: folder with CIFAR-10, or None.
        timeout_s: time limit of one request, or None for the default.
        budget, budget_name: of the timed rounds; the name is empty for one that has none.
        baseline: what speeds are compared with; None for the fastest of each workload.
        gradient_norms: follow the gradient back through time.
        trace: keep every quantity in the order of computation, after every training step too.
        situations: in which agreement is checked, as asked for; none means everyday, and for `stressed` all that apply.
        stressed: the workloads of small models that are checked in more than the everyday situation.
        training_steps: of each training on real data, for `agree`; None when there is none, and for `compare`.
        training_optimisers: kinds that `agree` trains with on real data.
        configuration: from `faceoff.toml`.
        quiet: no progress.
        notices: what to tell before anything is run.
        resume: go on with the run whose journal is in `out`.
    """

    command: str
    workloads: tuple[Workload, ...]
    contenders: tuple[Contender, ...]
    steps: tuple[str, ...]
    dtypes: tuple[str, ...]
    seed: int
    threads: int
    device: str
    card: int
    preset: str
    models: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    sequence_lengths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    names: tuple[str, ...]
    optimiser: Optimiser
    out: Path
    data: Path | None
    timeout_s: float | None
    budget: Budget
    budget_name: str
    baseline: Contender | None
    gradient_norms: bool
    trace: bool
    situations: tuple[str, ...]
    stressed: frozenset[Workload]
    training_steps: int | None
    training_optimisers: tuple[str, ...]
    configuration: Configuration
    quiet: bool
    notices: tuple[str, ...] = ()
    resume: bool = False

    @property
    def detail(self) -> Detail:
        """Which quantities are compared; `compare` and `bench` have no time for every layer."""
        if self.command != "agree":
            return "whole"
        return "steps" if self.trace else "layers"

    def situations_of(self, workload: Workload, dtype: str, widest: str = "float64") -> tuple[str, ...]:
        """In which situations the agreement of a workload is checked in a dtype, the everyday one first.

        Args:
            workload, dtype: what is checked.
            widest: that the contender's framework offers. The meaning is checked in it, and so are the situations that
                magnify faults of meaning.
        """
        if self.situations:
            return tuple(name for name in self.situations if SITUATIONS[name].applies(workload.model))
        if workload not in self.stressed:
            return (EVERYDAY,)
        return by_default(workload.model, "float64" if dtype == widest else dtype)

    def command_line(self) -> str:
        """The command that repeats the whole run."""
        parts = [
            "faceoff",
            self.command,
            "--preset",
            self.preset,
            "--seed",
            str(self.seed),
            "--threads",
            str(self.threads),
        ]
        parts += ["--device", device_name(self.device, self.card)]
        if self.training_steps is None or len(self.training_optimisers) == 1:
            parts += ["--optimiser", self.optimiser.kind]
        if self.models:
            parts += ["--models", ",".join(self.models)]
        parts += ["--contenders", ",".join(str(contender) for contender in self.contenders)]
        if self.command != "agree":
            parts += ["--steps", ",".join(self.steps)]
            parts += ["--budget", self.budget_name] if self.budget_name else []
            parts += ["--baseline", str(self.baseline)] if self.baseline else []
        parts += ["--dtype", ",".join(self.dtypes) if self.command == "agree" else self.workloads[0].dtype]
        parts += self._sizes(self.batch_sizes)
        parts += ["--workload", ",".join(self.names)] if self.names else []
        if self.command == "agree" and self.gradient_norms:
            parts.append("--gradient-norms")
        if self.trace:
            parts.append("--trace")
        parts += ["--situation", ",".join(self.situations)] if self.situations else []
        if self.training_steps is not None:
            parts += ["--training", "--training-steps", str(self.training_steps)]
        if self.data:
            parts += ["--data", str(self.data)]
        return shlex.join(parts)

    def again(self, workload: Workload, contender: Contender, dtype: str, situation: str = EVERYDAY) -> str:
        """The command that repeats one check of agreement."""
        name = Sized(workload.model, workload.batch_size).name
        sizes = self._sizes((workload.batch_size,))
        which = ["--preset", self.preset, *sizes, "--workload", name]
        if isinstance(workload.model, OwnSpec):
            which = ["--models", port_of(workload.model).path, *sizes[:2]]
        parts = ["faceoff", "agree", *which]
        parts += ["--contenders", str(contender), "--dtype", dtype]
        device = device_name(workload.device, self.card)
        parts += ["--device", device, "--optimiser", workload.optimiser.kind, "--seed", str(self.seed)]
        if self.situations_of(workload, dtype) != (EVERYDAY,):
            parts += ["--situation", situation]
        return shlex.join([*parts, "--trace"] if self.trace else parts)

    def _sizes(self, batch_sizes: Sequence[int]) -> list[str]:
        """The options that replace the preset's sizes."""
        found = []
        for option, sizes in (
            ("--batch-size", batch_sizes),
            ("--sequence-length", self.sequence_lengths),
            ("--hidden-size", self.hidden_sizes),
        ):
            found += [option, ",".join(str(size) for size in sizes)] if sizes else []
        return found

    def again_training(self, workload: Workload, contender: Contender) -> str:
        """The command that repeats one training on real data; empty for those of `compare`."""
        if self.training_steps is None:
            return ""
        return f"{self.again(workload, contender, workload.dtype)} --training --training-steps {self.training_steps}"


def make_options(
    command: str,
    *,
    models: Sequence[str] = (),
    contenders: Sequence[str] = (),
    tuned: bool = False,
    steps: Sequence[str] = (),
    preset: str | None = None,
    batch_size: Sequence[int] = (),
    sequence_length: Sequence[int] = (),
    hidden_size: Sequence[int] = (),
    workload: Sequence[str] = (),
    dtype: Sequence[str] = (),
    device: str = "cpu",
    optimiser: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    timeout_s: float | None = None,
    budget: Budget | str = "standard",
    baseline: str | None = None,
    gradient_norms: bool = False,
    trace: bool = False,
    situation: Sequence[str] = (),
    training: bool = False,
    training_steps: int | None = None,
    quiet: bool = False,
) -> Options:
    """Checks what was asked for and fills in the rest.

    Args:
        command: `compare`, `agree` or `bench`.
        models: families, and for `agree` paths of users' own models; none means all families of the preset.
        contenders: `framework:mode` or `framework`; none means all.
        tuned: add the mode `tuned` of every framework among them.
        steps: what is timed; none means inference and training.
        preset: name in `faceoff.workloads.presets.PRESETS`; None means `coverage` for `agree`, else `default`.
        batch_size: instead of the preset's.
        sequence_length: of recurrent models, likewise.
        hidden_size: of recurrent models and of the hidden layers of dense ones, likewise.
        workload: names of those to run of all these; none means all.
        dtype: for `agree`, what is checked (none means float64 and float32); else the one dtype that is timed (none
            means float32).
        device: `auto`, `cpu`, `gpu` or `gpu:N`.
        optimiser: one of `OPTIMISERS`; None means sgd for the training step, and all for training on real data.
        seed: of weights, batches and order.
        threads: of each worker; None means one for each core that this process may keep busy.
        out: folder for result, page and logs; None means a new one under `reports/`.
        data: folder with CIFAR-10 in its binary version.
        timeout_s: longest time one request to a worker may take.
        budget: as `faceoff.speed.budget.parse_budget` takes it, or a Budget.
        baseline: the contender that speeds are compared with; None means the fastest of each workload.
        gradient_norms: for `agree`, follow the gradient back through time; `compare` always does.
        trace: for `agree`, keep every quantity in the order of computation, after every training step too.
        situation: for `agree`, kinds of weights and inputs (`faceoff.workloads.situations`), not the preset's.
        training: for `agree`, train on real data as well; `compare` always does, with fewer steps.
        training_steps: of each of these trainings; None means 200.
        quiet: no progress.

    Raises:
        InputError: anything that is not known, does not fit, or cannot be written to.
    """
    models, contenders, steps, workload, dtype, situation = (
        _several(value, str, where)
        for where, value in (
            ("models", models), ("contenders", contenders), ("steps", steps), ("workload", workload), ("dtype", dtype),
            ("situation", situation),
        )
    )  # fmt: skip
    batch_size, sequence_length, hidden_size = (
        _several(value, int, where)
        for where, value in (
            ("batch_size", batch_size), ("sequence_length", sequence_length), ("hidden_size", hidden_size)
        )
    )  # fmt: skip
    configuration = read_configuration()
    chosen_steps = tuple(dict.fromkeys(steps)) or DEFAULT_STEPS
    for step in chosen_steps:
        require_choice(step, STEPS, "steps")
    for name in dtype:
        require_choice(name, DTYPES, "dtype")
    for name in situation:
        require_choice(name, tuple(SITUATIONS), "situation")
    if command != "agree" and len(dtype) > 1:
        raise InputError("too many", where="dtype", got=", ".join(dtype), expected="one; run once for each")
    timed_dtype = dtype[0] if dtype and command != "agree" else "float32"
    dtypes = tuple(dict.fromkeys(dtype if command == "agree" and dtype else ("float64", timed_dtype)))
    cores = allowed_cores()
    if threads is not None and (not _is_whole(threads) or not 1 <= threads <= cores):
        raise InputError(
            "out of range", where="threads", got=threads, expected=f"1 to {cores}, the cores of this machine"
        )
    if not _is_whole(seed) or not 0 <= seed < 2**32:
        raise InputError("out of range", where="seed", got=repr(seed), expected=f"a whole number from 0 to {2**32 - 1}")
    if timeout_s is not None and not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
        raise InputError("not a duration", where="timeout", got=repr(timeout_s), expected="seconds above 0")
    asked_device, card = parse_device(device)
    preset = preset or DEFAULT_PRESETS.get(command, "default")
    everybody = preset in PRESETS and PRESETS[preset].everybody
    name_sides(models)
    names = parse_frameworks(contenders, everybody)
    device, notice = resolve_device(asked_device, card, names, configuration)
    parsed = parse_contenders(contenders, tuned, device, notice, everybody)
    if training_steps is not None:
        require_size(training_steps, "training-steps")
        if not training or command != "agree":
            raise InputError("steps of no training", where="training-steps", next_step="use it with agree --training")
    sizes = batch_size, sequence_length, hidden_size
    sized = choose_models(models, preset, sizes, workload, configuration, seed, timed=command != "agree")
    parsed = parsed if contenders else having_sides(parsed, sized, device)
    chosen = {
        Workload(item.model, item.batch_size, timed_dtype, device, "training", rule): item.stressed
        for item in sized
        if not situation or any(SITUATIONS[name].applies(item.model) for name in situation)
        for rule in (replace(item.optimiser, kind=optimiser or _kind_in(item.optimiser.kind, dtypes)),)
    }
    if not chosen:
        raise InputError("no model for it", where="situation", got=", ".join(situation), expected="another model")
    workloads = tuple(chosen)
    for checked in dtypes:
        # Made for its check alone: not every optimiser has a meaning in every dtype.
        workloads[0].replace(dtype=checked)
    if not isinstance(budget, Budget):
        cases = len(workloads) * len(chosen_steps), len(parsed)
        budget_name, budget = str(budget), parse_budget(str(budget), *cases)
    else:
        budget_name = ""
    chosen_baseline = _parse_baseline(baseline, parsed)
    return Options(
        command=command,
        workloads=workloads,
        contenders=parsed,
        steps=chosen_steps,
        dtypes=dtypes,
        seed=seed,
        threads=threads or usable_cores(),
        device=device,
        card=card,
        preset=preset,
        models=tuple(models),
        batch_sizes=tuple(batch_size),
        sequence_lengths=tuple(sequence_length),
        hidden_sizes=tuple(hidden_size),
        names=tuple(workload),
        optimiser=Optimiser(kind=optimiser or "sgd"),
        out=prepare_folder(out),
        data=_folder_of_data(data),
        timeout_s=timeout_s,
        budget=budget,
        budget_name=budget_name,
        baseline=chosen_baseline,
        gradient_norms=gradient_norms or command == "compare",
        trace=trace and command == "agree",
        situations=tuple(dict.fromkeys(situation)) if command == "agree" else (),
        stressed=frozenset(item for item in workloads if chosen[item] and command == "agree"),
        training_steps=(training_steps or LONG_TRAINING_STEPS) if training and command == "agree" else None,
        training_optimisers=(optimiser,) if optimiser else OPTIMISERS,
        configuration=configuration,
        quiet=quiet,
        notices=(
            notice,
            *(f"{name} is left out: {error}" for name, error in FRAMEWORKS.broken.items()),
            describe_quota(),
            describe_left_out(threads or usable_cores()),
        ),
    )


def _several(value: Any, kind: type, where: str) -> tuple[Any, ...]:
    """What a caller from Python gave: one alone, several, or nothing; raises InputError on another type."""
    if value is None:
        return ()
    found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if not all(isinstance(item, kind) for item in found):
        expected = "names" if kind is str else "whole numbers"
        raise InputError("another type", where=where, got=repr(value), expected=f"a sequence of {expected}")
    return found


def _kind_in(kind: str, dtypes: Sequence[str]) -> str:
    """A preset's optimiser; momentum for Adam in dtypes that cannot hold its constants."""
    return "momentum" if kind in ADAMS and not WITH_ADAM.issuperset(dtypes) else kind


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _folder_of_data(data: str | Path | None) -> Path | None:
    if data:
        require_utf8(Path(data).resolve(), "--data")
    return Path(data) if data else None


def _parse_baseline(name: str | None, contenders: Sequence[Contender]) -> Contender | None:
    if name is None:
        return None
    require_choice(name, tuple(str(contender) for contender in contenders), "baseline")
    return Contender.parse(name)
