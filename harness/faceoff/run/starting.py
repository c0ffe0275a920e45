"""What a run starts with: an empty result that says what was asked, and the pool of its workers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faceoff.core.own import port_of
from faceoff.core.spec import OwnSpec
from faceoff.machine.description import describe_machine
from faceoff.pool.workers import Pool
from faceoff.ports.mapping import describe_mapping
from faceoff.results.records import Result
from faceoff.run.options import Options
from faceoff.run.sources import digests


def blank_result(options: Options) -> Result:
    """A result that holds nothing yet but what was asked, when and where."""
    own = dict.fromkeys(w.model for w in options.workloads if isinstance(w.model, OwnSpec))
    return Result(
        created=datetime.now(UTC).isoformat(),
        command=options.command_line(),
        seed=options.seed,
        threads=options.threads,
        duration_s=0.0,
        machine=describe_machine(options.device, options.card),
        contenders=[],
        sources=digests([contender.framework for contender in options.contenders]),
        ports=[describe_mapping(port_of(spec)) for spec in own],
    )


def make_pool(options: Options) -> Pool:
    """The pool of a run, nothing started yet."""
    return Pool(
        options.contenders,
        device=options.device,
        number_of_card=options.card,
        threads=options.threads,
        seed=options.seed,
        log_directory=options.out / "logs",
        configuration=options.configuration,
        timeout_s=options.timeout_s,
    )


def without_home(settings: Any) -> Any:
    """The settings of a worker with `~` for the user's folder: results are shown to others."""
    if isinstance(settings, dict):
        return {name: without_home(value) for name, value in settings.items()}
    if isinstance(settings, str) and settings.startswith(f"{Path.home()}/"):
        return "~" + settings.removeprefix(str(Path.home()))
    return settings
