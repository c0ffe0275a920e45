"""Makes the atlas: one framework after the other, then the comparison."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from faceoff.core.errors import InputError, Outcome, WorkerError
from faceoff.core.spec import Contender
from faceoff.defaults.asking import Asker, Observed
from faceoff.defaults.atlas import Atlas, Finding, Row, make_row
from faceoff.defaults.effects import EffectFinder, collect_draws
from faceoff.defaults.initialisation import RECURRENT, measure_initialisation
from faceoff.defaults.layers import (
    CONVOLUTION,
    PADDING,
    PRECISION_ON_GPU,
    PRODUCT,
    measure_activations,
    measure_dropout,
    measure_loss,
    measure_normalisation,
    measure_padding,
    measure_precision,
    measure_products,
)
from faceoff.defaults.steps import measure_optimisers
from faceoff.defaults.units import unit_effects
from faceoff.frameworks.configuration import Configuration, read_configuration
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.devices import ask_frameworks, choose_device, parse_device
from faceoff.pool.environment import describe_left_out
from faceoff.pool.workers import Pool
from faceoff.run.progress import Reporter, tell
from faceoff.system.whole_files import scratch_folder

MEASUREMENTS = (
    measure_initialisation, measure_normalisation, measure_padding, measure_activations, measure_precision,
    measure_optimisers, measure_loss, measure_dropout,
)  # fmt: skip
EFFECT_UNITS = 8


def find_defaults(
    frameworks: Sequence[str] = (),
    *,
    seed: int = 0,
    device: str = "cpu",
    configuration: Configuration | None = None,
    quiet: bool = False,
    effects: bool = True,
) -> Atlas:
    """Finds what each framework does by default, and what the differences are worth.

    Args:
        frameworks: names; all unless given.
        seed: of draws, data and batches.
        device: `auto`, `cpu`, `gpu` or `gpu:N`; on a GPU only how exact products are is asked anew.
        configuration: interpreters and time limit; read from `faceoff.toml` and the environment unless given.
        quiet: no progress on standard error.
        effects: train the reference with each default; without, rows have no effects.

    Raises:
        InputError: an unknown framework or device.
        DeviceError: `gpu` was asked for and no framework sees one.
    """
    begin_s = time.monotonic()
    names = tuple(dict.fromkeys(frameworks)) or FRAMEWORKS.usual
    for name in names:
        if name not in FRAMEWORKS:
            raise InputError("unknown framework", where="frameworks", got=name, expected=", ".join(FRAMEWORKS))
    contenders = [Contender(name, next(iter(FRAMEWORKS[name].modes))) for name in names]
    configuration = configuration or read_configuration()
    kind, number = parse_device(device)
    answers = {} if kind == "cpu" else ask_frameworks(names, "gpu", configuration, number)
    threads = os.cpu_count() or 1
    notice = ""
    if answers:
        kind, notice = choose_device(kind, number, answers)
    if not quiet:
        tell((notice, describe_left_out(threads)))
    observed: dict[str, Observed] = {}
    failures: dict[str, WorkerError] = {}
    total = len(names) * (len(MEASUREMENTS) + 1) + EFFECT_UNITS
    # Many small products: handing them to a second thread costs more than it saves.
    with (
        threadpool_limits(1),
        Reporter(total, quiet) as reporter,
        scratch_folder() as logs,
    ):
        settings: dict[str, Any] = {
            "threads": threads,
            "seed": seed,
            "log_directory": logs,
            "configuration": configuration,
        }
        with Pool(contenders, device="cpu", **settings) as pool:
            for contender in contenders:
                name = contender.framework
                try:
                    observed[name] = observe(pool, contender, seed, reporter)
                except WorkerError as error:
                    failures[name] = error
        card = ""
        if kind == "gpu":
            with Pool(contenders, device="gpu", number_of_card=number, **settings) as on_gpu:
                card = on_gpu.card.describe().name if on_gpu.card else "unknown"
                for contender in contenders:
                    name = contender.framework
                    reporter.stage(f"{name}: products on the GPU")
                    if name in observed:
                        observe_products(on_gpu, contender, observed[name], answers[name].reason, seed)
        versions = {name: pool.installations[name].versions for name in names}
        rows = make_rows(names, observed, failures)
        if effects:
            _add_effects(rows, observed, seed, reporter)
    outcomes: dict[str, Outcome] = {
        name: failures[name].outcome if name in failures else outcome_of(observed[name]) for name in names
    }
    return Atlas(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=seed,
        card=card,
        duration_s=time.monotonic() - begin_s,
        frameworks=versions,
        outcomes=outcomes,
        rows=sorted(rows, key=lambda row: row.agree),
    )


def observe(pool: Pool, contender: Contender, seed: int, reporter: Reporter) -> Observed:
    """Everything that is measured of one framework; its worker is alone, as some take all of a GPU's memory."""
    worker = pool.start_untouched(contender)
    try:
        asker = Asker(worker, seed)
        for measure in MEASUREMENTS:
            reporter.advance(0, f"{contender.framework}: {measure.__name__.removeprefix('measure_')}")
            measure(asker)
            reporter.advance(1)
        order = asker.observed.findings[RECURRENT, "lstm gate order"]
        collect_draws(asker, tuple(order.words.split(", ")) if order.outcome == "ok" else None)
        reporter.advance(1)
        return asker.observed
    finally:
        worker.kill()


def observe_products(pool: Pool, contender: Contender, observed: Observed, reason: str, seed: int) -> None:
    """Adds what is measured of one framework on a GPU to what was on the CPU.

    Args:
        pool: on the GPU.
        contender, observed: of the framework.
        reason: why it can use no GPU, which is then what is found; empty where it can.
        seed: of the products' factors.
    """
    found = Finding(words=reason, outcome="unsupported")
    if not reason:
        try:
            worker = pool.start_untouched(contender)
            try:
                asker = Asker(worker, seed)
                measure_products(asker, PRECISION_ON_GPU)
            finally:
                worker.kill()
            observed.findings.update(asker.observed.findings)
            return
        except WorkerError as error:
            found = Finding(words=f"{error.outcome}: {error.what}", outcome=error.outcome)
    observed.findings.update({(PRECISION_ON_GPU, word): found for word in (PRODUCT, CONVOLUTION)})


def outcome_of(observed: Observed) -> Outcome:
    """`ok`, or how a worker of this framework ended before all was measured."""
    ends: list[Outcome] = [finding.outcome for finding in observed.findings.values()]
    return next((outcome for outcome in ends if outcome not in ("ok", "unsupported", "disagrees")), "ok")


def make_rows(names: Sequence[str], observed: dict[str, Observed], failures: dict[str, WorkerError]) -> list[Row]:
    """One row for each word that any framework was asked, in the order of the questions."""
    words = dict.fromkeys(key for seen in observed.values() for key in seen.findings)
    rows = []
    for topic, word in words:
        findings = {}
        for name in names:
            if name in failures:
                error = failures[name]
                words_ = "missing" if error.outcome == "missing" else f"{error.outcome}: {error.what}"
                findings[name] = Finding(words=words_, outcome=error.outcome)
            elif (topic, word) in observed[name].findings:
                findings[name] = observed[name].findings[topic, word]
        rows.append(make_row(topic, word, findings))
    return rows


def _add_effects(rows: list[Row], observed: dict[str, Observed], seed: int, reporter: Reporter) -> None:
    finder = EffectFinder(observed, seed)
    by_number = next((row.findings for row in rows if row.topic == PADDING and row.word.startswith("number")), {})
    differing = [row for row in rows if not row.agree]
    for row in differing:
        reporter.advance(EFFECT_UNITS / len(differing), f"effect of {row.word}")
        row.effects = [
            *finder.measured(row.topic, row.word),
            *unit_effects(row.topic, row.word, row.findings, by_number, seed),
        ]
