"""The Python interface; the commands are a thin layer over it.

`compare`, `agree` and `bench` take the keywords of `faceoff.run.options.make_options`, write `result.json`,
`page.html`, `journal.jsonl` and `logs/` into the output folder, and return the typed result. With `resume`, the output
folder of a run that was killed or interrupted, they go on there; what was asked for is known then. `compile_only` takes
those of `compare` and writes none of this. `load` reads a result file, `diff` compares two, `between_environments` two
parts of one. `assert_agrees` is a test of a port. All raise InputError for anything that cannot be run or read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import SkipTest

from faceoff import report
from faceoff.core.errors import InputError
from faceoff.differences.changes import between_environments, diff
from faceoff.ports.manifest import read_port
from faceoff.report.growing import GrowingPage
from faceoff.results import file as result_file
from faceoff.results.file import load
from faceoff.results.records import Result
from faceoff.run.engine import run
from faceoff.run.identity import identify
from faceoff.run.journal import Begin, Journal, resume_command
from faceoff.run.options import Options, make_options
from faceoff.run.out_folder import PAGE_NAME, RESULT_NAME
from faceoff.run.progress import tell
from faceoff.run.resuming import resumed_options
from faceoff.run.starting import blank_result
from faceoff.system.advice import to_go_on
from faceoff.system.whole_files import LOCK, scratch_folder

__all__ = ["agree", "assert_agrees", "bench", "between_environments", "compare", "compile_only", "diff", "load"]


def compare(**keywords: Any) -> Result:
    """The main job: agreement, speed, training on real data, cold start."""
    return run_and_save(choose_options("compare", **keywords))


def compile_only(**keywords: Any) -> Result:
    """Runs what `compare` with these keywords compiles, for its compile caches, and measures nothing.

    Returns:
        The agreement and the training that were run on the way. Nothing is written but compiled code, and where
        something failed the logs that its reason names.

    Raises:
        InputError: `compare` could not be run either, or was to be resumed.
    """
    for name in ("out", "resume"):
        if keywords.pop(name, None) is not None:
            raise InputError(
                "compiling alone keeps no result", where=name, next_step=f"leave out --{name} or --compile-only"
            )
    with scratch_folder() as folder:
        options = make_options("compare", out=folder, **keywords)
        tell(options.notices)
        result = run(options, speed=False, training=True, cold_start=False)
        if set(result.outcomes) - {"ok", "missing", "not_offered"}:
            # Its reasons name the logs.
            (folder / LOCK).unlink()
        return result


def agree(**keywords: Any) -> Result:
    """Agreement with the reference only."""
    return run_and_save(choose_options("agree", **keywords))


def assert_agrees(model: str | Path, **keywords: Any) -> None:
    """Holds the ports of a user's own model against its reference; for tests.

    Args:
        model: its folder, or its manifest.
        keywords: of `agree`. Unless `contenders` are given, all sides but the reference's take part, in all modes.

    Raises:
        AssertionError: a side disagrees, or could not be checked. The text names the tensor, the layer that makes the
            difference, by how many noise units, the seed, and the command that repeats it.
        unittest.SkipTest: a framework is not installed; pytest counts the test as skipped.
        InputError: the model cannot be opened.
    """
    manifest = read_port(Path(model))
    others = [name for name in manifest.sides if name != manifest.reference] or [manifest.reference]
    with scratch_folder() as folder:
        chosen = {"contenders": others, "quiet": True, "out": folder, **keywords}
        result = agree(models=[str(model)], **chosen)
    missing = [info.reason for info in result.contenders if info.outcome == "missing"]
    if missing:
        raise SkipTest("; ".join(dict.fromkeys(missing)))
    faults = [
        agreement.message or f"{agreement.contender} {agreement.outcome}: {agreement.reason}"
        for agreement in result.agreements
        if agreement.outcome not in ("ok", "not_offered")
    ]
    if faults:
        raise AssertionError("\n".join([*faults, f"  seed {result.seed}"]))


def bench(**keywords: Any) -> Result:
    """Speed of the contenders that agree, without training on real data and cold start."""
    return run_and_save(choose_options("bench", **keywords))


def choose_options(command: str, *, resume: str | Path | None = None, **keywords: Any) -> Options:
    """The options of a new run, or of the one to resume in the folder `resume`."""
    return make_options(command, **keywords) if resume is None else resumed_options(command, Path(resume), keywords)


def run_and_save(options: Options) -> Result:
    """Runs what `options` ask for and writes result file and page, also when it was interrupted."""
    whole = options.command == "compare"
    training = whole or options.training_steps is not None
    blank = blank_result(options)
    identity = identify(options, blank.machine)
    begin = Begin(created=blank.created, command_line=blank.command, identity=identity)
    with Journal(options.out, begin, resume=options.resume) as journal:
        tell((*options.notices, *journal.contents.notices))
        growing = GrowingPage(options.out / PAGE_NAME, options.out.name, options.quiet)
        result = run(
            options,
            speed=options.command != "agree",
            training=training,
            cold_start=whole,
            journal=journal,
            on_part=growing.offer,
        )
        try:
            result_file.save(result, options.out / RESULT_NAME)
            report.write_page([(options.out.name, result)], Path(options.out / PAGE_NAME))
            if not (result.interrupted or result.left_out):
                journal.end()
        except result_file.WriteError as error:
            step = to_go_on(error.errno, resume_command(options.command, options.out))
            raise InputError(error.what, where=error.where, got=error.got, next_step=step) from None
    return result
