"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from faceoff.commands.option_types import HomePath, Models, Names, Sizes
from faceoff.core.precision import DTYPES
from faceoff.core.spec import MODEL_KINDS, OPTIMISERS, STEPS

Command = TypeVar("Command", bound=Callable[..., Any])


def run_options(command: Command) -> Command:
    """The options that `compare`, `agree` and `bench` share."""
    options = [
        click.option(
            "--models",
            type=Models(MODEL_KINDS),
            default=(),
            help="Families to run, and folders of models of your own; all families of the preset by default.",
        ),
        click.option(
            "--contenders",
            type=Names(),
            default=(),
            help="framework:mode, or a framework for all its modes; all by default. `faceoff list` shows them.",
        ),
        click.option(
            "--tuned",
            is_flag=True,
            help="Add each framework's mode `tuned`, what it could do beside what users get, setting by setting.",
        ),
        click.option(
            "--preset",
            show_default="default, for agree coverage",
            help="Named set of sizes; see `faceoff list`.",
        ),
        click.option(
            "--batch-size",
            type=Sizes(),
            default=(),
            help="Instead of the preset's; several by commas; 1,2,4,... doubles until memory runs out for all.",
        ),
        click.option("--sequence-length", type=Sizes(), default=(), help="Of recurrent models; 8,16,...,256 doubles."),
        click.option("--hidden-size", type=Sizes(), default=(), help="Of recurrent and dense models."),
        click.option("--workload", type=Names(), default=(), help="Of all these only those of this name; by commas."),
        click.option("--device", default="cpu", show_default=True, help="auto, cpu, gpu, or gpu:N for one of several."),
        click.option("--optimiser", type=click.Choice(OPTIMISERS), help="Of training; sgd by default."),
        click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
        click.option(
            "--threads", type=click.IntRange(1), help="Threads of each contender; one for each core by default."
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=float,
            help="Longest time one request to a worker may take, seconds; its start may take 180, or this if longer.",
        ),
        click.option(
            "--out", type=HomePath(file_okay=False), help="Folder for result, page and logs; new under reports/."
        ),
        click.option(
            "--resume",
            type=HomePath(file_okay=False),
            metavar="DIR",
            help="Go on with the run in this folder, which was killed or interrupted; its options are taken over.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output."),
        click.option("--quiet", is_flag=True, help="No progress."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def speed_options(command: Command) -> Command:
    """The options of `compare` and `bench` that concern timing."""
    command = click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="float32",
        show_default=True,
        help="What is timed.",
        callback=lambda context, option, value: (value,),
    )(command)
    command = click.option(
        "--baseline",
        metavar="CONTENDER",
        help="What speeds are compared with; the fastest of each workload by default.",
    )(command)
    command = click.option(
        "--budget",
        default="standard",
        show_default=True,
        help="quick, standard, thorough, seconds of timed rounds, or minutes for the whole run, such as 5m.",
    )(command)
    return click.option(
        "--steps",
        type=Names(STEPS),
        default=("inference", "training"),
        show_default="inference,training",
        help="What is timed.",
    )(command)
