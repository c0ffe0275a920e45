"""The words, marks and names that the page uses for outcomes, workloads and contenders."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from faceoff.core.errors import HarnessError
from faceoff.core.spec import DenseSpec, ModelSpec, OwnSpec, RecurrentSpec, ResidualSpec, RnnSpec, Workload
from faceoff.pool.memory import OF_THE_CARD, OF_THE_HOST
from faceoff.report.text import clip, printable, with_interval
from faceoff.results.records import Result, TunedSetting

LABEL_LENGTH = 32
KIND_TITLES = {"dense": "Dense", "residual": "Residual", "rnn": "RNN", "lstm": "LSTM", "own": "Your own"}
NUM_COLOURS = 8
# In the square from -1 to 1, as Vega's symbols are, so that chart and legend draw the same outline.
SHAPES = (
    "M0,-1A1,1,0,1,1,0,1A1,1,0,1,1,0,-1Z",
    "M-0.85,-0.85H0.85V0.85H-0.85Z",
    "M0,-1L1,0.8H-1Z",
    "M0,-1.1L0.95,0L0,1.1L-0.95,0Z",
    "M0,1L1,-0.8H-1Z",
    "M-0.35,-1H0.35V-0.35H1V0.35H0.35V1H-0.35V0.35H-1V-0.35H-0.35Z",
    "M-0.8,-1L1,0L-0.8,1Z",
    "M0.8,-1L-1,0L0.8,1Z",
    "M-0.5,-1H0.5L1,0L0.5,1H-0.5L-1,0Z",
)

# What the verdict on a mode `tuned` without a setting says of the setting.
SETTING_WORDS = {"slower": "it pays", "faster": "it costs time", "tie": "no difference", "unresolved": "not resolved"}


@dataclass(frozen=True)
class OutcomeWords:
    """How an outcome is shown: never by colour alone."""

    symbol: str
    word: str
    level: str


NOT_OFFERED = "not_offered"
OUTCOMES = {
    "ok": OutcomeWords("✓", "ok", "good"),
    "disagrees": OutcomeWords("✗", "disagrees", "bad"),
    "out_of_memory": OutcomeWords("!", "out of memory", "warn"),
    "timeout": OutcomeWords("!", "timeout", "warn"),
    "crashed": OutcomeWords("!", "crashed", "warn"),
    "unsupported": OutcomeWords("–", "unsupported", "none"),
    "missing": OutcomeWords("–", "missing", "none"),
    NOT_OFFERED: OutcomeWords("–", "not offered", "none"),
}


def outcome_word(outcome: str, reason: str) -> str:
    """An outcome in words; of memory that ran out also whose it was, where the reason begins with that."""
    whose = next((memory for memory in (OF_THE_HOST, OF_THE_CARD) if reason.startswith(memory)), None)
    return f"out of {whose}" if whose and outcome == "out_of_memory" else OUTCOMES[outcome].word


@dataclass(frozen=True)
class WorkloadText:
    """A workload in words.

    Attributes:
        key: unique within a run; what `Comparison.workload` refers to.
        model_key: the same for every dtype and step of one model, batch size and device.
        kind: `LSTM`, `Dense`, ...
        sizes: of the model.
        conditions: batch size, dtype, device, and the optimiser of a training step.
        step: `inference`, `gradients`, `training`.
        device: `cpu` or `gpu`.
        batch_size: None for a record that holds no valid workload.
        family: the same for every batch size of one model, step, dtype and device.
    """

    key: str
    model_key: str
    kind: str
    sizes: str
    batch: str
    conditions: str
    step: str
    device: str = ""
    batch_size: int | None = None
    family: str = ""

    @property
    def title(self) -> str:
        return f"{self.kind} {self.step}".strip()


def describe_workload(record: Mapping[str, Any]) -> WorkloadText:
    """The workload of a record in words; a record that holds no valid one is shown as it stands."""
    return _described(json.dumps(record, sort_keys=True, default=str))


def read_workload(record: Mapping[str, Any]) -> Workload | None:
    """The workload of a record; None where it holds no valid one."""
    try:
        return Workload.from_json(record)
    except (HarnessError, TypeError, ValueError, AttributeError):
        return None


# The same workload is asked for by every contender and every part of the page.
@functools.lru_cache(maxsize=65536)
def _described(written: str) -> WorkloadText:
    workload = read_workload(json.loads(written))
    if workload is None:
        raw = clip(written)
        return WorkloadText(raw, raw, "Unknown workload", raw, "", "", "")
    batch = f"batch {workload.batch_size:,}"
    conditions = f"{batch}, {workload.dtype}, {workload.device}"
    if workload.step == "training":
        conditions += f", {workload.optimiser.kind} with learning rate {workload.optimiser.learning_rate:g}"
    return WorkloadText(
        key=workload.name,
        model_key=f"{workload.model.label}-b{workload.batch_size}-{workload.device}",
        kind=workload.model.name if isinstance(workload.model, OwnSpec) else KIND_TITLES[workload.model.kind],
        sizes=describe_sizes(workload.model),
        batch=f"{batch}, {workload.device}",
        conditions=conditions,
        step=workload.step,
        device=workload.device,
        batch_size=workload.batch_size,
        family=workload.replace(batch_size=1).name,
    )


def describe_sizes(model: ModelSpec) -> str:
    """A model's sizes in words."""
    if isinstance(model, DenseSpec):
        return " → ".join(f"{size:,}" for size in model.layer_sizes) + f", {model.activation}"
    if isinstance(model, ResidualSpec):
        depth = 2 * model.blocks_per_stage * len(model.stage_widths) + 2
        widths = "-".join(str(width) for width in model.stage_widths)
        return f"{depth} layers, {model.height}×{model.width}×{model.channels} images, widths {widths}"
    if isinstance(model, RecurrentSpec):
        layers = "" if model.num_layers == 1 else f"{model.num_layers} layers, "
        kind = f", {model.activation}" if isinstance(model, RnnSpec) else ""
        return (
            f"{layers}{model.sequence_length} steps, {model.input_size} → {model.hidden_size} → {model.output_size}"
            f"{kind}, many-to-{'many' if model.many_to_many else 'one'}"
        )
    return "your own model"


@dataclass(frozen=True)
class Identity:
    """How one contender looks in every chart and table of a page.

    Attributes:
        label: its name, short enough for an axis, and unique on the page.
        slot: position in the palette and in the list of shapes.
    """

    label: str
    slot: int

    @property
    def colour(self) -> str:
        return f"var(--c{self.slot % NUM_COLOURS + 1})"

    @property
    def shape_index(self) -> int:
        # 8 colours and 9 shapes: no pair repeats before 72 contenders.
        return self.slot % len(SHAPES)

    @property
    def shape(self) -> str:
        return SHAPES[self.shape_index]


def identify(results: Iterable[Result]) -> dict[str, Identity]:
    """An identity for every contender named anywhere in the results, in order of appearance."""
    found: dict[str, Identity] = {}
    taken: set[str] = set()
    for result in results:
        for name in contender_names(result):
            if name in found:
                continue
            short = printable(name).replace("\n", " ").replace("\t", " ") or "(no name)"
            short = label = short if len(short) <= LABEL_LENGTH else short[: LABEL_LENGTH - 1] + "…"
            number = 1
            while label in taken:
                number += 1
                label = f"{short} ({number})"
            taken.add(label)
            found[name] = Identity(label, len(found))
    return found


def contender_names(result: Result) -> list[str]:
    """Every contender of a result once: those asked for first, then any that only a record names."""
    names = [record.contender for record in (*result.contenders, *result.records)]
    names += [
        name
        for comparison in (*result.comparisons, *result.tuned)
        for name in (comparison.baseline, comparison.contender)
    ]
    names += [name for pair in result.break_evens for name in (pair.contender, pair.other)]
    return list(dict.fromkeys(names))


def setting_text(record: TunedSetting) -> str:
    """What a setting of a mode `tuned` brings, or why that is not known."""
    if record.comparison is None:
        return f"what it brings is not known: {record.reason}" if record.reason else "what it brings was not measured"
    figure = " ".join(with_interval(record.comparison.ratio, *record.comparison.interval))
    return f"without it {figure} times as long ({SETTING_WORDS[record.comparison.verdict]})"
