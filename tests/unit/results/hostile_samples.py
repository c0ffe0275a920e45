"""A result whose every text is somebody's attack on the page."""

from __future__ import annotations

from faceoff.results.costs import BreakEven
from faceoff.results.records import Result, TunedSetting
from tests.unit.results.samples import MODELS, main_job

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\u202eevil\u202c {{ 7*7 }} &amp; \"'",
    "n" * 10_000,
)


def hostile() -> Result:
    """Hostile text in every place that holds text."""
    script, image, bidi, long_name = HOSTILE
    result = main_job(("pytorch:eager", "jax:jit"), MODELS[2:])
    renamed = {"pytorch:eager": script, "jax:jit": long_name}
    for record in (*result.contenders, *result.records):
        record.contender = renamed[record.contender]
    for pair in result.comparisons:
        pair.contender, pair.baseline = renamed[pair.contender], renamed[pair.baseline]
    result.command = result.created = image
    result.machine = {script: image, "processor": bidi, "nested": {image: [script, None]}}
    for info in result.contenders:
        info.versions, info.settings, info.next_step = {image: script}, {bidi: {script: image}}, image
    result.contenders[0].outcome, result.contenders[0].reason = "crashed", bidi
    check = result.agreements[0]
    check.outcome, check.message, check.first_difference, check.again, check.log_tail = (
        "disagrees",
        image,
        script,
        bidi,
        image,
    )
    check.quantities[0].name, check.quantities[0].problem, check.quantities[0].agrees = script, image, False
    for record in result.cases:
        record.name, record.ledger = image, {script: image}
    result.cases[0].outcome, result.cases[0].reason, result.cases[0].log_tail = (
        "crashed",
        script,
        "\x1b[31m\ud800" + image,
    )
    result.cases[1].workload = {"model": script, "batch_size": image}
    for run in result.training_runs:
        run.task, run.reason = script, image
    for curve in result.gradient_norms:
        curve.reason, curve.again = script, image
    result.break_evens = [
        BreakEven(workload=script, contender=image, other=bidi, longer_s=float("nan"), saved_s=0.0, calls=calls)
        for calls in (float("inf"), float("nan"))
    ]
    timed = result.cases[2]
    result.tuned_settings = [
        TunedSetting(
            workload=timed.workload,
            contender=timed.contender,
            setting=script,
            what=what,
            outcome="crashed",
            reason=image,
        )
        for what in (image, long_name)
    ]
    result.gradient_norms[0].outcome = "disagrees"
    result.gradient_norms[1].workload = {"model": script, "dtype": image}
    return result
