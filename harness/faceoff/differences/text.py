"""Shows what changed between two result files: as text, and as Markdown for pull requests and CI jobs.

Names come from files that are not trusted: nothing in them is printed as markup or as a control character.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from faceoff.differences.records import CaseChange, Diff, NoiseChange, OutcomeChange, Setting
from faceoff.differences.sides import printable
from faceoff.speed.units import format_duration

# A line may hold several names.
LONGEST_LINE = 1000
COVERS_ONE_RUN = (
    "Both were timed in turn in one run, so a change of the machine hit both. Verdicts are held over all cases."
)
COVERS = (
    "What the machine changed by is taken out, and intervals cover rounds, processes and what the same thing differs "
    "by from run to run. Verdicts are held over all cases."
)
ONE_RUN_IS_SURER = (
    "Surer is to time both versions in one run: `faceoff env create NAME@base --from GIT-REV`, then `faceoff bench "
    "--contenders NAME@base,NAME`, then `faceoff diff RESULT --env base`."
)
HEADER = ("workload", "contender", "before", "after", "ratio", "95 % interval", "verdict")


def escape_markdown(text: str, longest: int = LONGEST_LINE) -> str:
    """The text as Markdown shows it literally, also in a table: no HTML, link, mention or emphasis."""
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(printable(text, longest), quote=False))
    # A backslash keeps neither a mention nor a bare address from becoming a link; a space without width does.
    return re.sub(r"@|://|www\.", lambda found: found[0][:-1] + "\u200b" + found[0][-1], escaped).replace(
        "\u200b@", "@\u200b"
    )


def headline(diff: Diff) -> str:
    """The answer in one line."""
    parts = []
    if diff.regressions:
        parts.append(f"{_count(len(diff.regressions), 'regression')} beyond {diff.threshold:g} %")
    disagreeing = sum(change.after == "disagrees" for change in diff.outcomes)
    if disagreeing:
        parts.append(f"{_count(disagreeing, 'record')} no longer agreeing")
    lost = sum(change.before == "ok" and change.after != "disagrees" for change in diff.outcomes)
    if lost:
        parts.append(f"{_count(lost, 'record')} no longer ok")
    if not parts:
        parts.append(
            f"No regression beyond {diff.threshold:g} % found" if diff.cases else "No case was timed in both files"
        )
    words = [case.verdict for case in diff.cases]
    tally = ", ".join(
        f"{words.count(word)} {word}" for word in ("slower", "faster", "tie", "unresolved") if word in words
    )
    if blind := sum(case.unsure for case in diff.cases):
        all_of = "all " if blind == len(diff.cases) else ""
        parts.append(f"cannot tell a change of {diff.threshold:g} % in {all_of}{_count(blind, 'case')}")
    return "; ".join(parts) + (f" (of {_count(len(words), 'case')}: {tally})" if tally else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _common_change(diff: Diff) -> str:
    if diff.median_ratio is None:
        return ""
    change = 100 * (diff.median_ratio - 1)
    taken = "" if diff.machine is None else ", with nothing taken out"
    return f"Median change of all {_count(len(diff.cases), 'case')}: {change:+.1f} % in time{taken}."


def _covers(diff: Diff) -> str:
    """What the intervals hold, and what would be surer where they leave too much unsure."""
    if diff.one_run:
        return COVERS_ONE_RUN
    if all(case.basis == "nothing" for case in diff.cases):
        return ONE_RUN_IS_SURER
    return f"{COVERS} {ONE_RUN_IS_SURER}" if any(case.unsure for case in diff.cases) else COVERS


def machine_line(diff: Diff) -> str:
    """What was taken for the machine's change, and what told it; empty of one run."""
    machine = diff.machine
    if machine is None or not diff.cases:
        return ""
    bases = {case.basis for case in diff.cases}
    canary = ", ".join(f"{kind} {_slower(ratio)}" for kind, ratio in machine.canary.items())
    told = f" The canary says: {canary}." if canary else ""
    if machine.ratio is None:
        return (
            "What the machine changed by is not known: no contender is the same in both files, and not both have a "
            "canary. So there is no verdict."
        )
    ratios = machine.workloads.values()
    ends = _slower(min(ratios)), _slower(max(ratios))
    span = f" ({ends[0]} to {ends[1]}, by workload)" if ends[0] != ends[1] else ""
    by = f"{_count(machine.cases, 'case')} of {_count(len(machine.controls), 'contender')} that stayed the same"
    if "controls" not in bases:
        by = "the canary, as no contender stayed the same"
    elif bases != {"controls"}:
        by += ", or by the canary or nothing where there was none"
    return f"The machine was {_slower(machine.ratio)}{span}: by {by}.{told}"


def _slower(ratio: float) -> str:
    """A ratio of times in words."""
    change = 100 * abs(ratio - 1)
    return "as fast" if change < 0.05 else f"{change:.1f} % {'slower' if ratio > 1 else 'faster'}"


def _sorted(cases: Sequence[CaseChange]) -> list[CaseChange]:
    return sorted(cases, key=lambda case: (not case.regression, -case.ratio))


def told_of(diff: Diff) -> list[CaseChange]:
    """The cases worth telling, regressions first: what became slower or faster."""
    return [case for case in _sorted(diff.cases) if case.regression or case.verdict in ("slower", "faster")]


def _row(case: CaseChange) -> tuple[str, ...]:
    low, high = case.interval
    return (
        case.workload,
        case.contender,
        format_duration(case.before_s),
        format_duration(case.after_s),
        f"{case.ratio:.3f}",
        f"{low:.3f} to {high:.3f}",
        "REGRESSION" if case.regression else case.verdict,
    )


def _outcome_line(change: OutcomeChange) -> str:
    name = f" {change.name}" if change.name else ""
    reason = f": {change.reason}" if change.reason and change.after != "ok" else ""
    return f"{change.kind}{name}, {change.contender}: {change.before}, now {change.after}{reason}"


def _noise_line(change: NoiseChange) -> str:
    before, after = ("not finite" if u is None else f"{u:.3g}" for u in (change.before, change.after))
    return f"{change.workload}, {change.contender}, {change.check}: {before}, now {after}"


def _setting_line(change: Setting) -> str:
    where = f" ({', '.join(change.where)})" if change.where else ""
    return f"{change.what}: {change.before or 'none'}, now {change.after or 'none'}{where}"


def lists_of(diff: Diff) -> Iterator[tuple[str, list[str]]]:
    """Everything beside speed: title and lines of each list that is not empty."""
    found = (
        ("Unlike, and compared all the same (--force)", diff.unlike),
        ("Outcomes that changed", [_outcome_line(change) for change in diff.outcomes]),
        ("Versions and settings that changed", [_setting_line(change) for change in diff.settings]),
        ("Noise units that changed by more than double, worst quantity", [_noise_line(c) for c in diff.noise]),
        ("Not compared", diff.not_compared),
        ("To note", diff.notes),
    )
    yield from ((title, lines) for title, lines in found if lines)


def print_diff(diff: Diff) -> None:
    """Prints the answer, every case, and what else changed."""
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=False)

    def say(line: str) -> None:
        console.print(Text(printable(line, LONGEST_LINE)), soft_wrap=True)

    say(headline(diff))
    for case in diff.regressions:
        low, high = case.interval
        say(f"  {case.workload}, {case.contender}: {case.ratio:.3f} times as long [{low:.3f}, {high:.3f}]")
    if diff.cases:
        table = Table(*HEADER, title="Time after over time before: above 1 is slower", title_justify="left")
        for case in _sorted(diff.cases):
            table.add_row(*(Text(printable(cell)) for cell in _row(case)))
        console.print(table)
        for line in filter(None, (machine_line(diff), _common_change(diff), _covers(diff))):
            say(line)
    for title, lines in lists_of(diff):
        say(f"{title}:")
        for line in lines:
            say(f"  {line}")
    say(f"before: {diff.before}")
    say(f"after:  {diff.after}")


def to_markdown(diff: Diff) -> str:
    """The same as Markdown: the answer and what changed, with every case folded in below."""
    parts = [f"### Face-off: {escape_markdown(headline(diff))}"]
    told = told_of(diff)
    if told:
        parts.append(_markdown_table(told))
    for title, lines in lists_of(diff):
        parts.append(f"**{title}**\n\n" + "\n".join(f"- {escape_markdown(line)}" for line in lines))
    if diff.cases:
        sentences = (escape_markdown(machine_line(diff)), _common_change(diff), _covers(diff))
        parts.append(" ".join(filter(None, sentences)))
        table = _markdown_table(_sorted(diff.cases))
        parts.append(f"<details><summary>{_count(len(diff.cases), 'case')}</summary>\n\n{table}\n\n</details>")
    parts.append(f"Before: {escape_markdown(diff.before)}; after: {escape_markdown(diff.after)}")
    return "\n\n".join(parts)


def _markdown_table(cases: Sequence[CaseChange]) -> str:
    rows = [HEADER, ("---",) * len(HEADER)]
    rows += [tuple(escape_markdown(cell, 200) for cell in _row(case)) for case in cases]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
