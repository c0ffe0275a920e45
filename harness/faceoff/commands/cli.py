"""The command `faceoff`: a thin layer over `faceoff.api`.

Exit status: 0 all that was asked for ran and agreed, 1 a disagreement, or a regression found by `diff`, 2 bad usage
or input, 3 a case ended otherwise (crash, time-out, missing), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from faceoff.commands.authors import check, new
from faceoff.commands.environments import env
from faceoff.commands.option_types import HomePath, Names
from faceoff.commands.shared_options import run_options, speed_options
from faceoff.core.errors import HarnessError
from faceoff.core.precision import DTYPES
from faceoff.system import interrupts
from faceoff.system.streams import complaint, enduring_streams

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="faceoff", prog_name="faceoff")
def cli() -> None:
    """Do deep-learning frameworks compute the same models, and which is faster here?

    Begin with `faceoff compare`. Exit status: 0 all ran and agreed, 1 a disagreement (or a regression, of `diff`),
    2 bad usage or input, 3 a case ended otherwise (crash, time-out, missing).
    """


@cli.command()
@run_options
@speed_options
@click.option("--data", type=HomePath(), help="Folder with CIFAR-10 in its binary version, to train on as well.")
@click.option(
    "--compile-only",
    is_flag=True,
    help="Measure nothing and keep no result: compile what this comparison compiles, so that it need not.",
)
def compare(compile_only: bool, **keywords: Any) -> int:
    """The main job: agreement, speed, training on real data, cold start; ends with a page."""
    return _compile(**keywords) if compile_only else _run("compare", **keywords)


@cli.command()
@run_options
@click.option("--dtype", type=Names(DTYPES), default=("float64", "float32"), show_default="float64,float32")
@click.option("--gradient-norms", is_flag=True, help="Also the norm of dLoss/dh_t over the time steps of RNN and LSTM.")
@click.option(
    "--trace", is_flag=True, help="The whole path, also where all agree: layers, gradients, each training step."
)
@click.option(
    "--training", is_flag=True, help="Also train on real data, with every optimiser unless --optimiser names one."
)
@click.option(
    "--situation",
    type=Names(),
    default=(),
    help="Kinds of weights and inputs, such as everyday, large, zero; by commas. `faceoff list` shows them.",
)
@click.option("--training-steps", type=click.IntRange(1), show_default="200", help="Of each training on real data.")
def agree(**keywords: Any) -> int:
    """Does every contender compute what the NumPy reference computes?

    float64 checks the meaning, float32 the precision: outputs of every layer, loss, all gradients, weights and
    optimiser state after training steps, and what a reset brings back.
    """
    return _run("agree", **keywords)


@cli.command()
@run_options
@speed_options
def bench(**keywords: Any) -> int:
    """Times the contenders that agree, round by round, interleaved."""
    return _run("bench", **keywords)


def _run(command: str, *, as_json: bool, **keywords: Any) -> int:
    from faceoff.api import choose_options, run_and_save
    from faceoff.commands.summary import print_summary, way_on
    from faceoff.run.out_folder import PAGE_NAME, RESULT_NAME

    if keywords["resume"] is not None:
        keywords = {name: value for name, value in keywords.items() if _was_given(name)}
    options = choose_options(command, **keywords)
    try:
        result = run_and_save(options)
        if as_json:
            click.echo(result.model_dump_json(indent=1))
        else:
            print_summary(result, options.out / RESULT_NAME, options.out / PAGE_NAME)
    except KeyboardInterrupt:
        # While result or page were made, or for the second time.
        interrupts.ignore()
        click.echo(way_on(command, options.out), err=True)
        raise
    if result.interrupted and as_json:
        click.echo(way_on(command, options.out), err=True)
    return INTERRUPTED if result.interrupted else result.exit_status


def _compile(*, as_json: bool, **keywords: Any) -> int:
    from faceoff.api import compile_only
    from faceoff.commands.summary import print_compiled
    from faceoff.frameworks.caches import compile_cache_root

    result = compile_only(**keywords)
    if as_json:
        click.echo(result.model_dump_json(indent=1))
    else:
        print_compiled(result, compile_cache_root())
    # Whoever is not installed has nothing to compile.
    status = 0 if {"missing"} <= set(result.outcomes) <= {"ok", "missing", "not_offered"} else result.exit_status
    return INTERRUPTED if result.interrupted else status


def _was_given(name: str) -> bool:
    """Whether an option stands on the command line; else it has its default."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


@cli.command()
@click.argument("results", nargs=-1, required=True, type=HomePath())
@click.option(
    "-o",
    "--out",
    type=HomePath(output=True),
    help="The file (- for standard output), or the folder of pictures; beside the first result by default.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["html", "md", "csv", "svg", "png"]),
    default="html",
    show_default=True,
    help="md and csv go to standard output unless --out names a file; svg and png draw each chart.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the paths of what was written as JSON.")
@click.option("--quiet", is_flag=True, help="Print no paths.")
def report(results: tuple[str, ...], out: str | None, layout: str, as_json: bool, quiet: bool) -> int:
    """Makes a page from result files: one HTML file for all of them, or Markdown, a table, pictures.

    Files of one machine are shown as a history too. What `faceoff defaults --out` has written goes on the page as well.
    """
    import json

    from faceoff import report as reports
    from faceoff.defaults.atlas import parse_atlas
    from faceoff.results.file import parse, read_document, write_text
    from faceoff.run.out_folder import PAGE_NAME
    from faceoff.system.texts import clean

    pictures = layout in ("svg", "png")
    if out == "-" and (pictures or as_json):
        raise click.UsageError("- is no place for this: pictures go into a folder, and --json prints")
    if out and out.endswith("/") and not pictures:
        raise click.UsageError(f"{clean(out)} names a folder, and this is one file")
    # A pipe can be read once.
    texts = {name: read_document(Path(name)) for name in results}
    shown = [(clean(name), parse_atlas(texts[name], Path(name)) or parse(texts[name], Path(name))) for name in results]
    # Beside a pipe is no place for a page.
    beside = Path(results[0]).parent if Path(results[0]).is_file() else Path()
    if pictures:
        written = reports.write_charts(shown, Path(out) if out else beside / "charts", layout)  # type: ignore[arg-type]
    elif out == "-" or (out is None and layout != "html"):
        click.echo({"html": reports.render, "md": reports.to_markdown, "csv": reports.to_csv}[layout](shown), nl=False)
        as_json, quiet, written = False, True, []
    elif layout == "html":
        written = [Path(out) if out else beside / PAGE_NAME]
        reports.write_page(shown, written[0])
    else:
        written = [Path(str(out))]
        write_text(written[0], reports.to_markdown(shown) if layout == "md" else reports.to_csv(shown))
    if as_json:
        click.echo(json.dumps({"page": str(written[0])} if layout == "html" else {"files": [str(p) for p in written]}))
    elif not quiet:
        for path in written:
            click.echo(f"page: {path}" if layout == "html" else str(path))
    lacking = "nothing to draw: these files hold nothing that a chart shows" if pictures and not written else ""
    if layout == "csv" and not any(getattr(item, "cases", ()) for _, item in shown):
        lacking = "no row to write: these files hold no case"
    if lacking:
        click.echo(f"faceoff: {lacking}", err=True)
    return HarnessError.exit_status if lacking else 0


@cli.command()
@click.argument("before", metavar="A", type=HomePath())
@click.argument("after", metavar="[B]", type=HomePath(), required=False)
@click.option(
    "--env",
    "environments",
    metavar="BEFORE[,AFTER]",
    help="Compare two environments within file A; AFTER is the usual one unless named.",
)
@click.option(
    "--threshold", type=float, default=10.0, show_default=True, help="Percent by which a case may get slower."
)
@click.option("--force", is_flag=True, help="Compare unlike machines, threads, devices and sets of cases all the same.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["text", "md"]),
    default="text",
    show_default=True,
    help="md for a comment on a pull request or the summary of a CI job.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON instead.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit status tells.")
def diff(
    before: str, after: str | None, environments: str | None, threshold: float, force: bool, layout: str,
    as_json: bool, quiet: bool,
) -> int:  # fmt: skip
    """What changed from result file A to B, both of the same machine; or in A from one environment to another.

    Exit status: 0 no regression, 1 a case slower by more than the threshold, or one that no longer agrees, 2 bad usage
    or files that are not alike, 3 what was ok ended otherwise.
    """
    from faceoff.api import between_environments
    from faceoff.api import diff as compare_files
    from faceoff.differences.text import print_diff, to_markdown

    if (after is None) == (environments is None):
        raise click.UsageError("give two files, or one and --env", click.get_current_context())
    if environments:
        found = between_environments(before, environments, threshold=threshold)
    else:
        found = compare_files(before, str(after), threshold=threshold, force=force)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    elif layout == "md" and not quiet:
        click.echo(to_markdown(found))
    elif not quiet:
        print_diff(found)
    return found.exit_status


@cli.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(as_json: bool) -> int:
    """Frameworks, versions, modes, models and presets."""
    from faceoff.commands.inventory import print_inventory

    print_inventory(as_json)
    return 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> int:
    """What this machine can run, and what is missing, with the command that installs it."""
    from faceoff.commands.inventory import print_diagnosis

    return 0 if print_diagnosis(as_json) else 3


@cli.command()
@click.option("--frameworks", type=Names(), default=(), help="By commas; all by default.")
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="auto, cpu, gpu, or gpu:N. On a GPU how exact float32 products are is asked too; all else of the CPU.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the atlas as JSON on standard output.")
@click.option(
    "--out", type=HomePath(dir_okay=False, output=True), help="Write the atlas as JSON to this file too (- as --json)."
)
@click.option("--quiet", is_flag=True, help="No progress.")
def defaults(frameworks: tuple[str, ...], device: str, seed: int, as_json: bool, out: str | None, quiet: bool) -> int:
    """What the frameworks do when nothing is said: found by running them, with what a difference is worth."""
    from faceoff.defaults import find_defaults, print_atlas
    from faceoff.results.file import require_writable, write_text
    from faceoff.system.texts import cleaned

    if out == "-":
        out, as_json = None, True
    if out:
        require_writable(Path(out))
    atlas = cleaned(find_defaults(frameworks, seed=seed, device=device, quiet=quiet))
    text = atlas.model_dump_json(indent=1)
    if out:
        write_text(Path(out), text)
    if as_json:
        click.echo(text)
    else:
        print_atlas(atlas)
    return atlas.exit_status


cli.add_command(env)
cli.add_command(new)
cli.add_command(check)


def _one_line(error: click.ClickException) -> str:
    """What was wrong and where help is, instead of the three paragraphs that click prints."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    help_line = f"; see `{context.command_path} --help`" if context else ""
    message = " ".join(error.format_message().split())
    return (message if message.endswith("...") else message.rstrip(".")) + help_line


def main(arguments: list[str] | None = None) -> None:
    """Entry of the command; ends the process with the exit status."""
    interrupts.listen()
    with enduring_streams() as output:
        status = _run_command(arguments)
        # A signal now would only hide how it ended.
        interrupts.ignore()
        if status == INTERRUPTED:
            click.echo("faceoff: interrupted", err=True)
            sys.stdout.flush()
            # A thread may still be deep in the reference's arithmetic; nothing it could finish is wanted.
            os._exit(INTERRUPTED)
        if problem := complaint(output):
            click.echo(f"faceoff: {problem}", err=True)
            status = status or HarnessError.exit_status
    sys.exit(status)


def _run_command(arguments: list[str] | None) -> int:
    try:
        status: int = cli.main(arguments, prog_name="faceoff", standalone_mode=False)
        return status
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"faceoff: {_one_line(error)}", err=True)
        return error.exit_code
    except HarnessError as error:
        click.echo(f"faceoff: {error}", err=True)
        return error.exit_status
