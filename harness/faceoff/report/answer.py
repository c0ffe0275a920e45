"""The first screen: whether all agree, which contender is fastest where, and what went wrong, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from faceoff.report import trust
from faceoff.report.norms import norms_text
from faceoff.report.sections import setting_of
from faceoff.report.speed import SpeedGroup
from faceoff.report.text import counted, listed, printable, with_interval
from faceoff.report.words import NOT_OFFERED, OUTCOMES, contender_names, describe_workload
from faceoff.results.agreements import BELOW_FLOAT32, meaning_checked_in
from faceoff.results.records import Comparison, Result


@dataclass(frozen=True)
class Relation:
    """One contender's time in terms of another's: `who` `figure`."""

    contender: str
    figure: str


@dataclass(frozen=True)
class Answer:
    """The answer for one workload.

    Attributes:
        lead: the comparable contender with the lowest time; empty when there is none.
        claim: what can be said of it: `is fastest`, `has the lowest time`, ...
        time: its time, with the unit.
        against_baseline: the lead's own ratio, when the ratios of this workload refer to another contender.
        slower, ties, unresolved: the others by their verdict against the lead.
        indirect: the others' ratios to the baseline, when none to the lead was recorded.
        unrelated: comparable, but without any recorded ratio.
        distrust: what lowers trust in all of that, sentences; empty where nothing does.
    """

    group: SpeedGroup
    lead: str = ""
    claim: str = ""
    time: str = ""
    baseline: str = ""
    against_baseline: str = ""
    slower: list[Relation] = field(default_factory=list)
    ties: list[Relation] = field(default_factory=list)
    unresolved: list[Relation] = field(default_factory=list)
    indirect: list[Relation] = field(default_factory=list)
    unrelated: list[str] = field(default_factory=list)
    distrust: str = ""


def answer_for(group: SpeedGroup, comparisons: list[Comparison]) -> Answer:
    """Reads the answer for one workload from its recorded comparisons."""
    if not group.rows:
        return Answer(group)
    lead, *others = group.rows
    time, distrust = f"{lead.time} {group.unit}", trust.distrust(group)
    if not others:
        claim = "is the only one that can be compared" if group.left_out else "is the only contender here"
        return Answer(group, lead.contender, claim, time, distrust=distrust)
    pairs = {(c.contender, c.baseline): c for c in comparisons if c.workload == group.workload.key}
    own = pairs.get((lead.contender, group.baseline))
    by_verdict: dict[str, list[Relation]] = {"slower": [], "tie": [], "unresolved": []}
    indirect, unrelated = [], []
    settled = True
    for row in others:
        direct, through_baseline = (
            pairs.get((row.contender, lead.contender)),
            pairs.get((row.contender, group.baseline)),
        )
        if direct is not None:
            by_verdict.get(direct.verdict, by_verdict["unresolved"]).append(_relation(direct))
            settled &= direct.verdict == "slower"
        elif row.is_baseline:
            settled &= own is not None and own.verdict == "faster"
        elif through_baseline is not None:
            indirect.append(_relation(through_baseline))
            settled &= own is not None and through_baseline.interval[0] > own.interval[1]
        else:
            unrelated.append(row.contender)
            settled = False
    return Answer(
        group=group,
        lead=lead.contender,
        claim=_claim(settled, group.floor is not None and group.floor.noisy),
        time=time,
        baseline=group.baseline,
        against_baseline="" if own is None or lead.is_baseline else _relation(own).figure,
        slower=by_verdict["slower"],
        ties=by_verdict["tie"],
        unresolved=by_verdict["unresolved"],
        indirect=indirect,
        unrelated=unrelated,
        distrust=distrust,
    )


def _claim(settled: bool, busy: bool) -> str:
    if not settled:
        return "has the lowest time"
    return "came out fastest, on a busy machine" if busy else "is fastest"


def _relation(comparison: Comparison) -> Relation:
    ratio, interval = with_interval(comparison.ratio, *comparison.interval)
    return Relation(comparison.contender, f"{ratio} {interval}")


@dataclass(frozen=True)
class Headline:
    """The state of agreement in one sentence, with the level that colours it.

    Attributes:
        contenders: who the sentence begins with, if it is about some by name.
    """

    level: str
    symbol: str
    text: str
    contenders: list[str] = field(default_factory=list)


def headline(result: Result) -> Headline:
    """Whether all contenders agree with the reference, from the recorded outcomes."""
    checks = [check for check in result.agreements if check.outcome != NOT_OFFERED]
    if not checks:
        return Headline("none", "–", "Agreement with the reference was not checked in this run.")
    models = {describe_workload(check.workload).model_key for check in checks}
    disagreeing = list(dict.fromkeys(c.contender for c in checks if c.outcome == "disagrees"))
    if disagreeing:
        failed = {describe_workload(c.workload).model_key for c in checks if c.outcome == "disagrees"}
        verb = "disagrees" if len(disagreeing) == 1 else "disagree"
        where = f"on {len(failed)} of {counted(len(models), 'model')}"
        return Headline("bad", "✗", f"{verb} with the reference {where}.", disagreeing)
    names = {check.contender for check in checks}
    kinds = listed(_check_words(result))
    ended = [check for check in checks if check.outcome != "ok"]
    if len(ended) == len(checks):
        return Headline("warn", "!", "No check of agreement ran to its end, so nothing is known to agree.")
    if ended:
        return Headline(
            "warn",
            "!",
            f"Nothing disagrees, but {len(ended)} of {counted(len(checks), 'agreement check')} did not run to the end.",
        )
    everyone = len(names) == len(contender_names(result))
    who = _all(len(names), "contender").capitalize() if everyone else f"The {counted(len(names), 'contender')} checked"
    if len(names) == 1:
        who = "The only contender" if everyone else "The one contender checked"
    what = _all(len(models), "model") if len(models) > 1 else "the one model checked"
    verb = "agrees" if len(names) == 1 else "agree"
    level, symbol = ("good", "✓") if everyone else ("warn", "!")
    return Headline(level, symbol, f"{who} {verb} with the reference on {what}, in {kinds}.")


def _all(count: int, noun: str) -> str:
    return f"both {noun}s" if count == 2 else f"all {counted(count, noun)}"


def _check_words(result: Result) -> list[str]:
    """The checks that were run, with their dtypes: `meaning (float64)`, `precision (float32)`."""
    dtypes: dict[str, dict[str, None]] = {}
    for check in (check for check in result.agreements if check.outcome != NOT_OFFERED):
        dtypes.setdefault(check.check, {})[str(check.workload.get("dtype", "unknown dtype"))] = None
    return [f"{kind} ({', '.join(found)})" for kind, found in sorted(dtypes.items())]


def training_sentence(result: Result) -> str:
    """How the training runs on real data ended, in one sentence; empty when there were none."""
    runs = result.training_runs
    if not runs:
        return ""
    good = sum(run.outcome == "ok" for run in runs)
    tasks = counted(len({(run.task, setting_of(run)) for run in runs}), "task")
    if good < len(runs):
        who = f"{good} of {counted(len(runs), 'run')} {'follows' if good == 1 else 'follow'}"
    else:
        who = "the one run follows" if good == 1 else f"{_all(good, 'run')} follow"
    return f"Training on real data ({tasks}): {who} the reference within rounding."


@dataclass
class Problem:
    """Something that did not end `ok`, once for all the records that it concerns.

    Attributes:
        places: what it concerns; empty when it concerns all that the contenders were asked for.
    """

    contenders: list[str]
    outcome: str
    reason: str
    next_step: str
    places: list[str] = field(default_factory=list)


def problems(result: Result) -> list[Problem]:
    """What is missing, crashed, timed out, ran out of memory or disagrees, with reason and next step.

    What is not offered is no problem: see `not_offered`.
    """
    absent: dict[tuple[str, str, str], Problem] = {}
    known: set[tuple[str, str]] = set()
    for info in result.contenders:
        if info.outcome != "ok":
            known.add((info.contender, info.outcome))
            key = (info.outcome, info.reason, info.next_step)
            absent.setdefault(key, Problem([], *key)).contenders.append(info.contender)
    found: dict[tuple[str, str, str], Problem] = {}
    for contender, outcome, reason, again, place in _failures(result):
        if outcome == NOT_OFFERED:
            continue
        # Where the whole contender is already listed with this outcome, each of its cases would only repeat it.
        if (contender, outcome) not in known:
            problem = found.setdefault((contender, outcome, reason), Problem([contender], outcome, reason, again))
            problem.places.append(place)
    return [*absent.values(), *found.values()]


def not_offered(result: Result) -> dict[str, list[str]]:
    """What frameworks do not offer of what was asked: each reason, with the contenders that it is of."""
    found: dict[str, dict[str, None]] = {}
    for contender, outcome, reason, *_ in _failures(result):
        if outcome == NOT_OFFERED:
            found.setdefault(reason.removeprefix(f"{contender}: "), {})[contender] = None
    return {reason: list(names) for reason, names in found.items()}


def meaning_narrower(result: Result) -> dict[str, list[str]]:
    """The dtypes in which the meaning is checked of contenders that offer no float64, with those contenders."""
    found: dict[str, list[str]] = {}
    for contender, dtype in meaning_checked_in(result.agreements).items():
        found.setdefault(dtype, []).append(contender)
    return found


def below_float32(result: Result) -> list[tuple[str, str]]:
    """Contenders that agree in float64 only as float32 would, with what is to be known of that."""
    return [(a.contender, a.note) for a in result.agreements if a.outcome == "ok" and BELOW_FLOAT32 in a.note]


def concerned(result: Result) -> dict[str, list[str]]:
    """Each outcome that is a problem, with the contenders that it befell."""
    found: dict[str, dict[str, None]] = {}
    for record in (*result.contenders, *result.records):
        if record.outcome not in ("ok", NOT_OFFERED):
            found.setdefault(record.outcome, {})[record.contender] = None
    return {outcome: list(names) for outcome, names in found.items()}


def _failures(result: Result) -> list[tuple[str, str, str, str, str]]:
    """Every record that did not end ok: contender, outcome, reason, command that repeats it, what it concerns."""
    found: list[tuple[str, str, str, str, str]] = []
    for check in result.agreements:
        if check.outcome != "ok":
            workload = describe_workload(check.workload)
            reason = check.reason or check.message.split("\n")[0]
            found.append((check.contender, check.outcome, reason, check.again, f"{workload.kind}, {check.check_name}"))
    for case in result.cases:
        if case.outcome != "ok":
            title = describe_workload(case.workload).title
            found.append((case.contender, case.outcome, case.reason, "", f"{title}, speed"))
    for setting in result.tuned_settings:
        if setting.outcome != "ok":
            place = f"{describe_workload(setting.workload).title}, {setting.setting}"
            found.append((setting.contender, setting.outcome, setting.reason, "", place))
    for start in result.cold_starts:
        if start.outcome != "ok":
            kind = describe_workload(start.workload).kind
            found.append((start.contender, start.outcome, start.reason, "", f"{kind}, cold start"))
    for run in result.training_runs:
        if run.outcome != "ok":
            place = f"training on {run.task}, {setting_of(run)}"
            found.append((run.contender, run.outcome, run.reason, run.again, place))
    for norms in result.gradient_norms:
        if norms.outcome != "ok":
            place = f"gradient norms, {norms_text(norms)}"
            found.append((norms.contender, norms.outcome, norms.reason, norms.again, place))
    return found


def outcome_counts(result: Result) -> list[tuple[str, int]]:
    """How many records ended in each of the outcomes."""
    outcomes = result.outcomes
    return [(outcome, outcomes.count(outcome)) for outcome in OUTCOMES]  # type: ignore[arg-type]


def answer_sentence(answer: Answer) -> str:
    """The answer for one workload in one sentence, for the terminal and other text."""
    workload = answer.group.workload
    where = f"{workload.title} ({'; '.join(part for part in (workload.sizes, workload.conditions) if part)})"
    if not answer.lead:
        return f"{where}: no contender can be compared"
    parts = [f"{printable(answer.lead)} {answer.claim}, {answer.time} per call"]
    if answer.against_baseline:
        parts.append(f"{answer.against_baseline} times as long as {printable(answer.baseline)}")
    for label, relations in (
        ("a tie with it", answer.ties),
        ("not resolved against it", answer.unresolved),
        ("slower, times as long", answer.slower),
        (f"against {printable(answer.baseline)}, times as long", answer.indirect),
    ):
        if relations:
            parts.append(f"{label}: " + ", ".join(f"{printable(r.contender)} {r.figure}" for r in relations))
    if answer.unrelated:
        parts.append("no ratio recorded: " + ", ".join(printable(name) for name in answer.unrelated))
    sentence = f"{where}: {'; '.join(parts)}"
    return f"{sentence}. {printable(answer.distrust)}" if answer.distrust else sentence
