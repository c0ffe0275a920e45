"""Results as the main job makes them, built by code, for the tests of the page."""

from __future__ import annotations

import math
import random
from typing import Any

from faceoff.core.spec import OPTIMISERS, DenseSpec, LstmSpec, ModelSpec, Optimiser, ResidualSpec, RnnSpec, Workload
from faceoff.results.agreements import Agreement, Quantity
from faceoff.results.costs import Ceiling, ColdStart
from faceoff.results.records import CaseResult, Comparison, ContenderInfo, Process, Result, Speed
from faceoff.results.trainings import GradientNorms, TrainingRun

MODELS: tuple[ModelSpec, ...] = (
    DenseSpec((3072, 512, 512, 10)),
    ResidualSpec(32, 32, 3),
    RnnSpec(64, 256, 10, 50),
    LstmSpec(64, 256, 10, 50),
)
# Factors over the quickest, one a model, inference then training; only their order and rough size matter.
FACTORS = {
    "pytorch:eager": (1.0, 1.7, 1.0, 1.0, 1.12, 1.3, 1.0, 1.0),
    "pytorch:compile": (1.16, 1.0, 1.02, 1.46, 1.0, 1.06, 1.01, 2.29),
    "tensorflow:eager": (9.4, 8.1, 14.0, 21.0, 6.2, 7.0, 9.1, 11.3),
    "tensorflow:graph": (1.84, 1.6, 3.7, 3.6, 1.3, 1.7, 2.2, 4.7),
    "tensorflow:xla": (1.47, 1.0, 1.4, 2.2, 1.0, 1.2, 1.3, 3.1),
    "tensorflow:graph-onednn": (1.6, 1.1, 3.6, 3.4, 1.2, 1.0, 2.1, 4.1),
    "jax:jit": (1.31, 1.43, 1.1, 2.5, 1.0, 2.2, 1.4, 1.9),
}
QUICKEST_S = (2.9e-3, 36.4e-3, 4.8e-3, 12.3e-3, 8.4e-3, 120e-3, 13.1e-3, 34.8e-3)
VERSIONS = {
    "pytorch": {"torch": "2.13.0", "numpy": "2.4.1"},
    "tensorflow": {"tensorflow-cpu": "2.21.0", "keras": "3.15.1", "numpy": "2.4.1"},
    "jax": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "numpy": "2.4.1"},
}
CONTENDERS = tuple(FACTORS)
# Of which the gradient is followed back through time, one of each framework; and its factor over a time step.
NORM_CONTENDERS = ("pytorch:eager", "tensorflow:eager", "jax:jit")
NormSetting = tuple[float, float | None]
SHRINKS_BY: dict[str, dict[NormSetting, float]] = {
    "rnn": {(0.5, None): 0.5, (1.0, None): 0.98, (1.5, None): 1.45},
    "lstm": {(0.5, 0.0): 0.6, (0.5, 1.0): 0.85, (0.5, 2.0): 0.99, (0.5, 5.0): 1.1},
}


def workload(model: ModelSpec, step: str = "inference", **changes: Any) -> Workload:
    """A workload of the main job."""
    return Workload(model, 32, step=step, optimiser=Optimiser("adam", learning_rate=1e-3)).replace(**changes)


def contender(name: str) -> ContenderInfo:
    """A contender that started."""
    framework, mode = name.split(":")
    return ContenderInfo(
        contender=name,
        outcome="ok",
        versions=VERSIONS[framework],
        code="0123456789abcdef",
        settings={
            "device": "cpu",
            "threads": 2,
            "float32_matmul": "highest" if framework != "tensorflow" else "true float32",
            "environment": {"OMP_NUM_THREADS": "2", "TF_ENABLE_ONEDNN_OPTS": "1" if "onednn" in mode else "0"},
        },
    )


def missing(name: str) -> ContenderInfo:
    """A contender whose framework is not installed."""
    return ContenderInfo(
        contender=name,
        outcome="missing",
        reason="No module named 'tensorflow'",
        next_step="pip install '.[tensorflow]'",
    )


def quantities(check: str, rng: random.Random, layers: int = 3) -> list[Quantity]:
    """Quantities that agree: outputs, loss, gradients, weights after three steps."""
    names = ["outputs", "loss", "gradient of input 'x'"]
    for layer in range(layers):
        for part in ("weight", "bias"):
            names += [f"gradient of 'layer.{layer}.{part}'", f"weight 'layer.{layer}.{part}' after 3 training steps"]
    found = []
    for name in names:
        reference = rng.gauss(0, 1)
        error = 10 ** rng.uniform(-16, -15) if check == "meaning" else 10 ** rng.uniform(-7, -6)
        found.append(
            Quantity(
                name=name,
                agrees=True,
                error=error,
                noise_units=rng.uniform(0.4, 1.1),
                limit=8.0,
                worst_index=[rng.randrange(32), rng.randrange(64)],
                got=reference * (1 + error),
                reference=reference,
            )
        )
    return found


def agreement(name: str, model: ModelSpec, check: str, rng: random.Random, layers: int = 3) -> Agreement:
    """A check that agrees."""
    dtype = "float64" if check == "meaning" else "float32"
    return Agreement(
        workload=workload(model, "training", dtype=dtype).to_json(),
        contender=name,
        check=check,  # type: ignore[arg-type]  # one of two literals, chosen above
        outcome="ok",
        quantities=quantities(check, rng, layers),
        again=f"faceoff agree --models {model.kind} --contenders {name} --seed 7",
    )


def disagreeing(name: str, model: ModelSpec) -> Agreement:
    """A check that disagrees: one gradient far off, one not finite, one missing."""
    good = agreement(name, model, "meaning", random.Random(3))
    bad = [
        Quantity(
            name="gradient of 'layer.0.weight_hh'", agrees=False, error=0.31, noise_units=4.1e7, limit=8.0,
            worst_index=[3, 17], got=0.1234568, reference=0.1834691,
        ),
        Quantity(
            name="loss", agrees=False, error=None, noise_units=None, limit=8.0, worst_index=[], got=None,
            reference=2.302585093, problem="not finite",
        ),
        Quantity(
            name="weight 'head.bias' after 3 training steps", agrees=False, error=None, noise_units=None, limit=8.0,
            worst_index=[], got=None, reference=None, problem="missing",
        ),
    ]  # fmt: skip
    return good.model_copy(
        update={
            "outcome": "disagrees",
            "quantities": good.quantities + bad,
            "first_difference": "layer.0, gate f (training)",
            "message": f"{model.kind} training step, {name} against reference (float64, cpu): gradient of "
            "'layer.0.weight_hh' is 4.1e+07 noise units off (limit 8); 3 of 18 quantities disagree\n"
            "  worst at [3, 17]: got 0.1234568, reference 0.1834691",
        }
    )


def case(name: str, at: Workload, time_s: float, rng: random.Random) -> CaseResult:
    """A timed case."""
    rounds_s = [time_s * math.exp(rng.gauss(0, 0.02)) for _ in range(40)]
    return CaseResult(
        name=f"{at.name}[{name}]",
        workload=at.to_json(),
        contender=name,
        flops=10**9,
        outcome="ok",
        ledger={
            "kernel": "fused" if name.startswith("pytorch") else "loop",
            "layout": "batch first",
            "compiled": ":e" not in name,
        },
        speed=Speed(
            rounds_s=rounds_s,
            iterations=4,
            warmup_calls=5,
            time_s=time_s,
            interval_s=(time_s * 0.985, time_s * 1.016),
            processes=[
                Process(
                    passes=20,
                    disturbed=[3],
                    warmup_calls=3,
                    memory={"host_in_use_bytes": 300 * 2**20, "host_peak_bytes": 350 * 2**20},
                ),
                Process(passes=20, warmup_calls=2, memory={"host_in_use_bytes": 310 * 2**20}),
            ],
            latency_s=(time_s, time_s * 1.1, time_s * 1.4),
            pipelined_s=time_s * 0.97,
            pipelined_interval_s=(time_s * 0.95, time_s * 0.99),
            pipelined_rounds_s=[time_s * 0.97] * 12,
            pipelined_calls=8,
            last_wait=0.004,
            cpu_s=time_s * 1.9,
        ),
    )  # fmt: skip


def comparison(name: str, baseline: str, at: Workload, ratio: float) -> Comparison:
    """A ratio and the verdict that follows from its interval."""
    low, high = ratio * 0.97, ratio * 1.03
    word = "slower" if low > 1 else "faster" if high < 1 else "unresolved"
    return Comparison(
        workload=at.name, contender=name, baseline=baseline, ratio=ratio, interval=(low, high), verdict=word
    )


def training_run(name: str, model: ModelSpec, task: str, rng: random.Random, steps: int = 120) -> TrainingRun:
    """A training run that follows the reference within rounding."""
    reference = [2.3 * math.exp(-step / 40) + 0.12 + 0.05 * math.sin(step) for step in range(steps)]
    noise = [1e-8 * (1 + step) for step in range(steps)]
    return TrainingRun(
        task=task,
        workload=workload(model, "training").to_json(),
        contender=name,
        outcome="ok",
        losses=[loss + rng.gauss(0, 0.8) * spread for loss, spread in zip(reference, noise, strict=True)],
        reference_losses=reference,
        noise=noise,
        noise_units=1.9,
        limit=10.0,
        accuracy=0.9528,
        reference_accuracy=0.9528,
        accuracy_noise=0.0028,
    )


def gradient_norms(name: str, model: ModelSpec, setting: NormSetting, dtype: str) -> GradientNorms:
    """A curve that agrees, over all 50 time steps."""
    steps = [0, 20, 40, 48, 49]
    reference = [0.5 * SHRINKS_BY[model.kind][setting] ** (49 - t) for t in steps]
    exact = dtype == "float64"
    return GradientNorms(
        workload=workload(model, "gradients", dtype=dtype).to_json(),
        spectral_radius=setting[0],
        forget_bias=setting[1],
        contender=name,
        outcome="ok",
        time_steps=steps,
        norms=[norm * (1 + (1e-16 if exact else 1e-7)) for norm in reference],
        reference_norms=list(reference),
        noise=[(1e-16 if exact else 1e-7) * norm for norm in reference],
        distances=[0.7] * len(steps),
        limit=8.0,
        again=f"faceoff agree --models {model.kind} --contenders {name} --dtype {dtype} --gradient-norms",
    )


def empty(**changes: Any) -> Result:
    """A result with nothing in it but what was asked."""
    fields: dict[str, Any] = {
        "created": "2025-03-04T10:20:30+00:00",
        "command": "faceoff compare --seed 7",
        "seed": 7,
        "threads": 2,
        "duration_s": 252.4,
        "machine": {
            "processor": "AMD EPYC 7B13",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "system": "Linux 6.8 x86_64",
            "python": "3.11.7",
        },
        "contenders": [],
    }
    return Result(**{**fields, **changes})


def main_job(
    contenders: tuple[str, ...] = CONTENDERS, models: tuple[ModelSpec, ...] = MODELS, layers: int = 3
) -> Result:
    """All contenders, all models, inference and training, every one agreeing."""
    rng = random.Random(7)
    ceiling = Ceiling(
        dtype="float32", device="cpu", product_size=2048, product_flops={"jax:jit": 1e12}, copy_bytes=2e10
    )
    result = empty(contenders=[contender(name) for name in contenders], ceilings=[ceiling])
    for model in models:
        for name in contenders:
            result.agreements += [agreement(name, model, check, rng, layers) for check in ("meaning", "precision")]
        for step in ("inference", "training"):
            add_speed(result, workload(model, step), contenders, rng)
        for name in contenders:
            result.cold_starts.append(cold_start(name, model, rng))
    for model, task in zip(
        models, ("dense on digits", "residual on digits", "rnn on digits", "lstm on help text"), strict=False
    ):
        result.training_runs += [training_run(name, model, task, rng) for name in contenders]
    for model in models:
        result.gradient_norms += [
            gradient_norms(name, model, setting, dtype)
            for name in contenders
            if name in NORM_CONTENDERS
            for dtype in ("float64", "float32")
            for setting in SHRINKS_BY.get(model.kind, ())
        ]
    return result


def dated(created: str, slower: float = 1.0, models: int = 1, **changes: Any) -> Result:
    """A small run of that day, whose `jax:jit` takes `slower` times as long as in others."""
    result = main_job(("pytorch:eager", "jax:jit"), MODELS[:models])
    for found in result.cases:
        if found.contender == "jax:jit" and found.speed:
            found.speed.rounds_s = [slower * round_s for round_s in found.speed.rounds_s]
            found.speed.time_s *= slower
            found.speed.interval_s = (slower * found.speed.interval_s[0], slower * found.speed.interval_s[1])
    return result.model_copy(update={"created": created, **changes})


def long_training() -> Result:
    """Two models trained with every optimiser in two dtypes, by two contenders; one run disagrees."""
    names, rng = ("pytorch:eager", "jax:jit"), random.Random(5)
    result = empty(contenders=[contender(name) for name in names])
    for model, task in zip(MODELS, ("dense on digits", "residual on digits"), strict=False):
        for kind in OPTIMISERS:
            for dtype in ("float64", "float32"):
                at = workload(model, "training", dtype=dtype, optimiser=Optimiser(kind))
                for name in names:
                    run = training_run(name, model, task, rng)
                    result.training_runs += [run.model_copy(update={"workload": at.to_json(), "loss_error": 2e-16})]
    bad = result.training_runs[1]
    bad.outcome, bad.noise_units, bad.loss_error = "disagrees", 41.0, 3e-9
    bad.reason, bad.again = "loss at step 3 is 41 noise units off", "faceoff agree --training"
    return result


def add_speed(result: Result, at: Workload, contenders: tuple[str, ...], rng: random.Random) -> None:
    """Adds the cases of one workload, and their ratios to the quickest."""
    place = MODELS.index(at.model) + (4 if at.step == "training" else 0)
    factors = {name: FACTORS[name][place] for name in contenders}
    quickest = min(factors, key=lambda name: factors[name])
    result.cases += [case(name, at, QUICKEST_S[place] * factor, rng) for name, factor in factors.items()]
    result.comparisons += [
        comparison(name, quickest, at, factor / factors[quickest])
        for name, factor in factors.items()
        if name != quickest
    ]


def cold_start(name: str, model: ModelSpec, rng: random.Random) -> ColdStart:
    """A cold start that reached its first result."""
    import_s = {"pytorch": 2.4, "tensorflow": 5.8, "jax": 1.1}[name.split(":")[0]]
    return ColdStart(
        workload=workload(model).to_json(),
        contender=name,
        outcome="ok",
        interpreter_s=0.05,
        import_s=import_s,
        configure_s=0.3,
        build_s=rng.uniform(0.05, 0.5),
        first_call_s=8.0 if name.endswith(("compile", "xla", "jit")) else 0.4,
    )


def troubled() -> Result:
    """The main job with one framework missing, a disagreement, a crash, a timeout and a loss that is not finite."""
    result = main_job()
    kept = [name for name in CONTENDERS if not name.startswith("tensorflow")]
    gone = [name for name in CONTENDERS if name not in kept]
    result = main_job(tuple(kept))
    result.contenders += [missing(name) for name in gone]
    lstm, rnn = MODELS[3], MODELS[2]
    result.agreements = [
        disagreeing("jax:jit", lstm)
        if check.contender == "jax:jit" and check.workload["model"]["kind"] == "lstm" and check.check == "meaning"
        else check
        for check in result.agreements
    ]
    for record in result.cases:
        kind, step = record.workload["model"]["kind"], record.workload["step"]
        if record.contender == "jax:jit" and kind == lstm.kind:
            record.outcome, record.reason = "disagrees", "it disagrees with the reference on this model"
        if record.contender == "pytorch:compile" and kind == rnn.kind and step == "training":
            record.outcome, record.reason, record.speed = "timeout", "no answer within 120 s", None
            record.log_tail = "compiling graph 1\ncompiling graph 2\n"
        if record.contender == "pytorch:compile" and kind == lstm.kind and step == "inference":
            record.outcome, record.reason, record.speed = "crashed", "the worker was ended by signal 9 (SIGKILL)", None
            record.log_tail = "<b>Killed</b>\n"
    result.comparisons = [
        c for c in result.comparisons if not (c.contender == "jax:jit" and c.workload.startswith("lstm"))
    ]
    run = result.training_runs[-1]
    result.training_runs[-1] = run.model_copy(
        update={
            "outcome": "disagrees",
            "noise_units": None,
            "losses": [*run.losses[:90], *[None] * 30],
            "accuracy": None,
        }
    )
    curve = result.gradient_norms[-1]
    curve.outcome, curve.reason = "disagrees", "dLoss/dh_20 is not finite: norm not finite, reference 0.0135"
    curve.norms[1] = curve.distances[1] = None
    curve.underflow = [0]
    result.interrupted = True
    return result
