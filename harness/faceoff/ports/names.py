"""What the names of weights say: layers, their parts, and which words mean the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from faceoff.core.weights import STATISTICS
from faceoff.ports.entries import Entry

QUERY_KEY_VALUE = ("query", "key", "value")
OUT = "out"
# In the order that is usual where four gates lie in one array.
LSTM_GATES = ("i", "f", "g", "o")
INPUT, HIDDEN = "ih", "hh"

_PARTS = {
    "weight": ("weight", "weights", "kernel", "kernels", "embedding", "embeddings", "w"),
    "bias": ("bias", "biases", "beta", "b"),
    "scale": ("scale", "gamma"),
    "mean": ("mean",),
    "variance": ("variance", "var"),
}
_PART_OF = {word: part for part, words in _PARTS.items() for word in words}
_RUNNING = ("running", "moving")
_ROLES = {"ih": INPUT, "i2h": INPUT, "input": INPUT, "hh": HIDDEN, "h2h": HIDDEN, "recurrent": HIDDEN, "hidden": HIDDEN}
_PACKED = ("in_proj", "qkv", "qkv_proj", "c_attn", "to_qkv", "wqkv", "query_key_value")
_SAME = {
    "linear": ("fc", "dense", "linear", "lin", "fully_connected"),
    "conv": ("conv", "conv1d", "conv2d", "conv3d", "convolution"),
    "depthwise": ("depthwise", "depthwise_conv", "depthwise_conv2d", "dw", "dwconv", "dw_conv"),
    "transposed": ("conv_transpose", "convtranspose", "conv2d_transpose", "deconv"),
    "norm": (
        "norm", "bn", "batch_norm", "batchnorm", "batch_normalization", "ln", "layer_norm", "layernorm",
        "layer_normalization", "gn", "group_norm", "groupnorm", "group_normalization", "rms_norm", "rmsnorm",
    ),
    "embedding": ("embedding", "embeddings", "embed", "emb", "token_embedding", "tok_emb", "wte"),
    "recurrent": ("lstm", "gru", "rnn", "simple_rnn", "lstm_cell", "gru_cell", "cell", "optimizedlstmcell"),
    "attention": (
        "attention", "attn", "self_attn", "self_attention", "mha", "multi_head_attention", "multiheadattention",
        "multi_head_dot_product_attention", "multi_head", "multihead_attn",
    ),
    "query": ("query", "q", "q_proj", "wq", "to_q", "query_proj", "q_lin", "query_dense"),
    "key": ("key", "k", "k_proj", "wk", "to_k", "key_proj", "k_lin", "key_dense"),
    "value": ("value", "v", "v_proj", "wv", "to_v", "value_proj", "v_lin", "value_dense"),
    "out": (
        "out", "out_proj", "output", "o_proj", "wo", "to_out", "attention_output", "out_lin", "output_dense", "c_proj",
    ),
    "": ("layer", "layers", "l", "block", "blocks", "encoder_layer", "encoder_block", "transformer_block"),
}  # fmt: skip
# Of a recurrent layer that runs both ways.
FORWARD, BACKWARD = "forward", "backward"
_DIRECTIONS = {"forward": FORWARD, "fwd": FORWARD, "backward": BACKWARD, "bwd": BACKWARD, "reverse": BACKWARD}
_SAME_AS = {word: same for same, words in _SAME.items() for word in words}
# Words that say no more than what the kind of the layer says anyway.
_KINDS = ("linear", "conv", "norm", "embedding", "recurrent", "attention", "depthwise", "transposed", "")
# The outermost name of a tree of parameters, and what holds the array of one.
_OUTER = ("params", "batch_stats", "buffers")
_INNER = ("raw_value", "value")
_NUMBERED = re.compile(r"(.*?)_?(\d+)")
_GATE = re.compile(r"([ih])([ifgorzn])_?")
_DENSE_OF_CELL = re.compile(r"(?:dense|linear)_([ih])")


@dataclass(frozen=True)
class Word:
    """A word of a name: its meaning, and the how-manyth of how many siblings with this meaning it is."""

    stem: str
    rank: int = 0
    count: int = 1


@dataclass(frozen=True)
class Named:
    """An entry and what its name says.

    Attributes:
        place: the names of the layer that it belongs to, outermost first.
        kind: of the layer.
        part: as in canonical names.
        role: `ih` or `hh` in recurrent layers.
        label: the gate, if each is on its own.
        canonical: its canonical name, were it on the reference's side.
    """

    entry: Entry
    place: tuple[str, ...]
    kind: str
    part: str
    role: str
    label: str
    canonical: str


def segments(path: str) -> list[str]:
    """The names in a path, outermost first, whatever stands between them."""
    found = [part for part in re.split(r"[^A-Za-z0-9_\-]+", re.sub(r":\d+$", "", path)) if part]
    if len(found) > 1 and found[0] in _OUTER:
        del found[0]
    if len(found) > 1 and found[-1] in _INNER:
        del found[-1]
    return found or [path]


def is_statistic(entry: Entry) -> bool:
    """Whether it is a running statistic, which is state and not trained."""
    words = segments(entry.path)[-1].lower().split("_")
    if not any(_PART_OF.get(word) in STATISTICS for word in entry.part.lower().split("_")):
        return False
    return entry.layer == "norm" or any(w in words for w in _RUNNING) if entry.trained is None else not entry.trained


def name_all(entries: Sequence[Entry]) -> list[Named]:
    """What the names of a side's entries say, read together."""
    beside: dict[tuple[str, ...], set[str]] = {}
    for entry in entries:
        *outer, parent = ["", *segments(entry.to or entry.path)[:-1]]
        beside.setdefault(tuple(outer[1:]), set()).add(parent.lower())
    found = [_named(entry, beside) for entry in entries]
    taken: dict[str, int] = {}
    unique = []
    for named in found:
        count = taken[named.canonical] = taken.get(named.canonical, 0) + 1
        name = named.canonical
        if count > 1:
            head, _, part = name.rpartition(".")
            name = f"{head}_{count}.{part}" if head else f"{count}.{part}"
        unique.append(Named(**{**vars(named), "canonical": named.entry.to or name}))
    return unique


def _named(entry: Entry, beside: Mapping[tuple[str, ...], set[str]]) -> Named:
    parts = segments(entry.to or entry.path)
    *outer, last = parts
    words = [word for word in re.sub(r"(?<=[a-z])(?=[A-Z])", "_", last).lower().split("_") if word]
    part, rest = _part_of(entry, words)
    kind, label = entry.layer, ""
    role = next((_ROLES[word] for word in words if word in _ROLES), "") if kind == "recurrent" else ""
    kept = [word for word in rest if not (role and word in _ROLES)]
    place = [*outer, "_".join(kept)] if kept else list(outer)
    shown = [*outer, "_".join(rest)] if rest else list(outer)
    for name in entry.labels:
        packed = [index for index, segment in enumerate(place) if segment.lower() in _PACKED]
        if name in QUERY_KEY_VALUE:
            place = [*place[: packed[-1]], name, *place[packed[-1] + 1 :]] if packed else [*place, name]
            shown = list(place)
        elif name in (INPUT, HIDDEN):
            role, shown = name, [*shown, name]
        else:
            label, shown = name, [*shown, name]
    if (found := _cell(place, beside)) is not None:
        place, role, gate = found
        kind, label = "recurrent", gate or label
    if kind == "recurrent" and part == "weight" and not role:
        role = INPUT
    canonical_part = part
    if part in STATISTICS and not is_statistic(entry):
        canonical_part = f"{part}_weight"
    return Named(entry, tuple(place), kind, part, role, label, ".".join([*shown, canonical_part]))


def _part_of(entry: Entry, words: list[str]) -> tuple[str, list[str]]:
    """The part of a layer, and the words of the last name that say something else."""
    told = [_PART_OF[word] for word in entry.part.lower().split("_") if word in _PART_OF]
    heard = [_PART_OF[word] for word in words if word in _PART_OF]
    rest = [word for word in words if word not in _PART_OF and word not in _RUNNING]
    if not entry.layer and (rest or not heard):
        # A parameter that belongs to no known layer: its whole name says what it is.
        part = (told or ["weight"])[0]
        return part, words if not told or not heard else rest
    part = (told or heard or [entry.part or "weight"])[0]
    if not told and not heard and words == entry.part.lower().split("_"):
        rest = []
    if entry.layer == "norm" and part == "weight":
        part = "scale"
    return part, rest


def _cell(place: list[str], layers: Mapping[tuple[str, ...], set[str]]) -> tuple[list[str], str, str] | None:
    """The recurrent layer whose gates, or whose two products, are layers of their own: its place, role and gate."""
    if not place:
        return None
    outer = tuple(place[:-1])
    beside = layers.get(outer, set())
    name = place[-1].lower()
    if {"ii", "hi"} <= beside or {"ir", "hr"} <= beside:
        if match := _GATE.fullmatch(name):
            return list(outer), INPUT if match[1] == "i" else HIDDEN, match[2]
    elif {"dense_i", "dense_h"} <= beside or {"linear_i", "linear_h"} <= beside:
        match = _DENSE_OF_CELL.fullmatch(name)
        if match:
            return list(outer), INPUT if match[1] == "i" else HIDDEN, ""
    return None


def guessed_stack(named: Named) -> tuple[str, ...]:
    """The equal parts that a packed projection holds by its name; empty if it says nothing."""
    packed = any(segment.lower() in _PACKED for segment in named.place)
    return QUERY_KEY_VALUE if packed and named.entry.canonical_shape[:1] and not named.entry.labels else ()


def role_of(place: tuple[str, ...]) -> str:
    """Which of query, key, value and what follows them (`out`) a layer is; empty if none."""
    stems = [_stem(segment)[0] for segment in place]
    if stems and (stems[-1] in QUERY_KEY_VALUE or (stems[-1] == OUT and "attention" in stems)):
        return stems[-1]
    return ""


def _stem(segment: str) -> tuple[str, int]:
    """What a name means without its number, and that; -1 without one."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", segment).lower().replace("-", "_")
    for whole in (text, text.replace("_", "")):
        if whole in _SAME_AS:
            return _SAME_AS[whole], -1
    match = _NUMBERED.fullmatch(text)
    bare, number = (match[1], int(match[2])) if match else (text, -1)
    bare = bare.strip("_")
    for whole in (bare, bare.replace("_", "")):
        if whole in _SAME_AS:
            return _SAME_AS[whole], number
    return bare, number


def _direction(segment: str, has_other: bool = False) -> tuple[str, str]:
    """A name without the word for a direction, and that.

    Args:
        segment: the name.
        has_other: there is another of this name that runs backwards, so that this one runs forwards.
    """
    parts = segment.split("_")
    found = next((index for index, part in enumerate(parts) if part.lower() in _DIRECTIONS), None)
    if found is None:
        return segment, FORWARD if has_other else ""
    return "_".join([*parts[:found], *parts[found + 1 :]]), _DIRECTIONS[parts[found].lower()]


def words_of(places: Sequence[tuple[str, ...]]) -> list[tuple[Word, ...]]:
    """The words of the names of a side's layers; numbers become ranks, and what all have in front is left out."""
    siblings: dict[tuple[tuple[str, ...], str, str], set[tuple[int, str]]] = {}
    turned = {
        (place[:depth], _direction(segment)[0])
        for place in places
        for depth, segment in enumerate(place)
        if _direction(segment)[1] == BACKWARD
    }
    for place in places:
        for depth, segment in enumerate(place):
            rest, direction = _direction(segment, (place[:depth], segment) in turned)
            stem, number = _stem(rest)
            siblings.setdefault((place[:depth], stem, direction), set()).add((number, segment))
    common = _common(places)
    found = []
    for place in places:
        words = []
        for depth, segment in enumerate(place[common:], common):
            rest, direction = _direction(segment, (place[:depth], segment) in turned)
            if direction:
                words.append(Word(direction))
            stem, number = _stem(rest)
            if not stem and number < 0:
                continue  # The list itself, whose numbers follow.
            ordered = sorted(siblings[place[:depth], stem, direction])
            words.append(Word(stem, ordered.index((number, segment)), len(ordered)))
        found.append(tuple(words))
    return found


def _common(places: Sequence[tuple[str, ...]]) -> int:
    """How many names all places begin with, the innermost never among them."""
    if len(places) < 2:
        return max(len(places[0]) - 1, 0) if places else 0
    shortest = min(len(place) for place in places)
    count = 0
    while count < shortest - 1 and len({place[count] for place in places}) == 1:
        count += 1
    return count


@lru_cache(maxsize=65536)
def likeness(one: tuple[Word, ...], other: tuple[Word, ...]) -> int:
    """How many telling words two names share; a word is as good as its beginning, from three letters on."""
    left = [word.stem for word in one if word.stem not in _KINDS]
    right = [word.stem for word in other if word.stem not in _KINDS]
    count = 0
    for stem in left:
        match = next((r for r in right if r == stem or (min(len(r), len(stem)) > 2 and _begins(r, stem))), None)
        if match is not None:
            right.remove(match)
            count += 1
    return count


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
