"""Canonical names for the reference's weights, and where every other side keeps them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.own import Placed, Port
from faceoff.core.weights import STATISTICS
from faceoff.ports.entries import Entry, Shape, place
from faceoff.ports.manifest import PortManifest, Rule
from faceoff.ports.matching import Layer, fit, layers_of, pair
from faceoff.ports.names import Named, is_statistic, name_all
from faceoff.ports.stacks import split_stacks
from faceoff.results.ports import PairedModel, PairedWeight

# So many of what is left over are named in an error.
SHOWN = 4
# Kinds that `Runtime.open_side` names.
LAYERS = ("linear", "convolution", "transposed convolution", "norm", "embedding", "recurrent")


@dataclass(frozen=True)
class Mapped:
    """Where every side keeps every weight.

    Attributes:
        weights: canonical names and shapes, in the reference's order.
        sides: by framework, canonical name to where it is.
        zeros: by framework, paths that stay zero.
        how: by framework, canonical name to how it was found: `rule`, `name`, `shape` or `order`.
    """

    weights: dict[str, Shape]
    sides: dict[str, dict[str, Placed]]
    zeros: dict[str, tuple[str, ...]]
    how: dict[str, dict[str, str]]


@dataclass
class _Side:
    """What a side holds, with what the rules say of it, and the paths that stay zero."""

    entries: list[Entry]
    zeros: list[str] = field(default_factory=list)


def map_sides(manifest: PortManifest, replies: Mapping[str, Mapping[str, Any]]) -> Mapped:
    """Finds where every side keeps every weight of the reference's.

    Args:
        manifest: with the rules of the user's.
        replies: by framework, the reference's among them: what `Runtime.open_side` returned.

    Raises:
        InputError: a weight is left over, is filled twice, or could be meant in more than one way.
    """
    where = {framework: f"{manifest.path}: sides.{framework}.weights" for framework in replies}
    sides = {
        framework: _with_rules(_entries(reply, where[framework]), manifest.sides[framework].weights, where[framework])
        for framework, reply in replies.items()
    }
    stacked = split_stacks({framework: side.entries for framework, side in sides.items()})
    named = {framework: name_all(entries) for framework, entries in stacked.items()}
    own = named[manifest.reference]
    weights = _canonical(own, where[manifest.reference])
    placed: dict[str, dict[str, Placed]] = {}
    how: dict[str, dict[str, str]] = {}
    for framework in sides:
        if framework == manifest.reference:
            placed[framework] = {one.canonical: _placed(one.entry, weights[one.canonical]) for one in own}
            how[framework] = {one.canonical: "rule" if one.entry.to else "name" for one in own}
        else:
            placed[framework], how[framework] = _pair_side(own, named[framework], weights, where[framework])
            placed[framework] = {name: placed[framework][name] for name in weights}
    return Mapped(weights, placed, {framework: tuple(side.zeros) for framework, side in sides.items()}, how)


def describe_mapping(port: Port) -> PairedModel:
    """Every weight with its path on every side, and what is done to a canonical array there."""
    weights = [
        PairedWeight(
            name=name,
            shape=list(shape),
            sides={framework: _in_words(side.weights[name]) for framework, side in port.sides.items()},
            how={framework: how[name] for framework, how in port.how.items()},
        )
        for name, shape in port.weights.items()
    ]
    zeros = {framework: list(side.zeros) for framework, side in port.sides.items() if side.zeros}
    return PairedModel(model=port.name, reference=port.reference, weights=weights, zeros=zeros)


def _in_words(placed: Placed) -> str:
    said = [placed.path]
    if placed.axes != tuple(range(len(placed.axes))):
        said.append(f"axes {list(placed.axes)}")
    if placed.shape is not None:
        said.append(f"reshaped to {list(placed.shape)}")
    if placed.block is not None:
        said.append(f"[{', '.join(f'{begin}:{end}' for begin, end in placed.block)}]")
    return ", ".join(said)


def _entries(reply: Mapping[str, Any], where: str) -> list[Entry]:
    found = []
    for told in reply["weights"]:
        shape = tuple(np.shape(reply["arrays"][told["path"]]))
        axes = tuple(told["axes"])
        if sorted(axes) != list(range(len(shape))):
            raise InputError(
                "axes that do not fit the array", where=f"{where}: {told['path']}",
                got=f"{list(axes)} of {list(shape)}", expected=f"a permutation of {len(shape)}",
                next_step="this is a fault of the framework's folder",
            )  # fmt: skip
        layer = told["layer"] if told["layer"] in LAYERS else ""
        stacked = tuple(told.get("stacked") or ())
        trained = told.get("trained")
        found.append(Entry(told["path"], layer, told["part"], axes, shape, stacked=stacked, trained=trained))
    return found


def _with_rules(entries: Sequence[Entry], rules: Mapping[str, Rule], where: str) -> _Side:
    """Entries with what the rules say of them; each rule matches something, and no two the same path."""
    by_path: dict[str, tuple[str, Rule]] = {}
    for pattern, rule in rules.items():
        matching = [entry.path for entry in entries if re.fullmatch(pattern, entry.path)]
        if not matching:
            close = difflib.get_close_matches(pattern, [entry.path for entry in entries], SHOWN, 0.0)
            raise InputError(
                "a rule that matches no weight", where=where, got=repr(pattern),
                expected="a whole path, such as " + ", ".join(close),
                next_step="mend the expression, or remove the rule",
            )  # fmt: skip
        for path in matching:
            if path in by_path:
                raise InputError(
                    "two rules match one weight", where=where, got=f"{by_path[path][0]!r} and {pattern!r} on {path}",
                    expected="one", next_step="remove one, or make it narrower",
                )  # fmt: skip
            by_path[path] = (pattern, rule)
    side = _Side([])
    for entry in entries:
        if entry.path not in by_path:
            side.entries.append(entry)
            continue
        pattern, rule = by_path[entry.path]
        if rule.zero:
            side.zeros.append(entry.path)
        else:
            side.entries += _ruled(entry, pattern, rule, f"{where}.{pattern!r}")
    return side


def _ruled(entry: Entry, pattern: str, rule: Rule, where: str) -> list[Entry]:
    """An entry, or its parts, as a rule has it."""
    match = re.fullmatch(pattern, entry.path)
    assert match is not None
    parts = [entry]
    names = [match.expand(name) for name in ([rule.to] if isinstance(rule.to, str) else rule.to)]
    if len(names) > 1:
        if rule.along >= len(entry.shape) or entry.shape[rule.along] % len(names):
            raise InputError(
                f"cannot be cut into {len(names)} equal parts along axis {rule.along}", where=where,
                got=f"{entry.path} {list(entry.shape)}", next_step="name another axis, as in along = 1",
            )  # fmt: skip
        parts = entry.parts(rule.along, tuple(names))
    shape, axes = rule.shape, rule.axes
    found = []
    for part, name in zip(parts, names, strict=True):
        if shape is not None and np.prod(shape) != np.prod(part.shape):
            raise InputError(
                "not as many elements", where=f"{where}.shape", got=list(shape),
                expected=f"as many as {list(part.shape)} has", next_step="mend it",
            )  # fmt: skip
        if shape is not None:
            # Then the axes are those of this shape.
            told = axes if axes is not None else tuple(range(len(shape)))
            found.append(replace(part, to=name, labels=(), told_shape=shape, told_axes=told))
        else:
            found.append(replace(part, to=name, labels=(), told_axes=axes))
    return found


def _canonical(named: Sequence[Named], where: str) -> dict[str, Shape]:
    """Names and shapes of the reference's own weights."""
    weights: dict[str, Shape] = {}
    for one in named:
        name, entry = one.canonical, one.entry
        if name in weights:
            raise InputError(
                "two weights of one name", where=where, got=f"{name!r}, also for {entry.path}",
                expected="another name for each", next_step=f"mend the rule, or add {_rule(entry.path, name + '_2')}",
            )  # fmt: skip
        if (name.rpartition(".")[2] in STATISTICS) != is_statistic(entry):
            raise InputError(
                "running statistics, and they alone, are called mean or variance after the last dot", where=where,
                got=f"{name!r} for {entry.path}", next_step="give it another name",
            )  # fmt: skip
        weights[name] = _own_shape(entry, where)
    return weights


def _own_shape(entry: Entry, where: str) -> Shape:
    """The canonical shape that a weight of the reference has."""
    if entry.told_shape is not None or entry.told_axes is None:
        return entry.canonical_shape
    if len(entry.told_axes) != len(entry.shape):
        raise InputError(
            "not as many axes as the weight has", where=f"{where}: {entry.path}", got=list(entry.told_axes),
            expected=str(len(entry.shape)), next_step="give the canonical shape too, as in shape = [10, 8, 4, 4]",
        )  # fmt: skip
    return tuple(int(size) for size in np.array(entry.shape)[np.argsort(entry.told_axes)])


def _placed(entry: Entry, shape: Shape) -> Placed:
    found = place(entry, shape)
    assert found is not None
    return found


def _pair_side(
    own: Sequence[Named], theirs: Sequence[Named], weights: dict[str, Shape], where: str
) -> tuple[dict[str, Placed], dict[str, str]]:
    """Where a side keeps every weight, and how that was found."""
    placed: dict[str, Placed] = {}
    statistics = {one.canonical for one in own if is_statistic(one.entry)}
    for one in theirs:
        if one.entry.to:
            placed[one.entry.to] = _by_rule(one.entry, weights, placed, statistics, where)
    how = dict.fromkeys(placed, "rule")
    reference = layers_of([one for one in own if one.canonical not in placed])
    side = layers_of([one for one in theirs if not one.entry.to])
    pairs = pair(reference, side, weights)
    if pairs.doubtful[0]:
        raise _doubtful([reference[i] for i in pairs.doubtful[0]], [side[j] for j in pairs.doubtful[1]], weights, where)
    for i, (j, reason) in pairs.found.items():
        found = fit(reference[i], side[j], weights)
        assert found is not None
        placed.update(found)
        how.update(dict.fromkeys(found, reason))
    used = {j for j, _ in pairs.found.values()}
    left = [one for j, layer in enumerate(side) if j not in used for one in layer.members.values()]
    empty = [one for i, layer in enumerate(reference) if i not in pairs.found for one in layer.members.values()]
    if left or empty:
        raise _left_over(empty, left, weights, where)
    return placed, how


def _by_rule(
    entry: Entry, weights: dict[str, Shape], placed: Mapping[str, Placed], statistics: set[str], where: str
) -> Placed:
    if entry.to not in weights:
        close = difflib.get_close_matches(entry.to, weights, SHOWN, 0.0)
        raise InputError(
            "a rule to a weight that the reference has not", where=where, got=f"{entry.to!r} for {entry.path}",
            expected="such as " + ", ".join(close), next_step="mend the name",
        )  # fmt: skip
    if entry.to in placed:
        raise InputError(
            "a weight that is filled twice", where=where,
            got=f"{entry.to!r} from {placed[entry.to].path} and {entry.path}", expected="one of them",
            next_step="mend the rules",
        )  # fmt: skip
    if (entry.to in statistics) != is_statistic(entry):
        raise InputError(
            "a running statistic against a trained weight", where=where, got=f"{entry.to!r} for {entry.path}",
            expected="two of a kind", next_step="mend the rule",
        )  # fmt: skip
    found = place(entry, weights[entry.to])
    if found is None:
        raise InputError(
            "shapes that do not fit", where=where, got=f"{entry.path} {list(entry.shape)}",
            expected=f"{entry.to} {list(weights[entry.to])} with its axes permuted, or a reshape of that",
            next_step="give the axes, or another name",
        )  # fmt: skip
    return found


def _rule(path: str, name: str | Sequence[str]) -> str:
    """A rule to paste."""
    names = f'"{name}"' if isinstance(name, str) else "[" + ", ".join(f'"{one}"' for one in name) + "]"
    return f"{_pattern(path)} = {{ to = {names} }}"


def _pattern(path: str) -> str:
    """A regular expression of one path, as a key of TOML."""
    text = re.sub(r"\\([-/ ])", r"\1", re.escape(path))
    return f"'{text}'" if "'" not in text else json.dumps(text)


def _shown(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return (", ".join(texts[:SHOWN]) or "nothing") + more


def _names(named: Sequence[Named], weights: dict[str, Shape]) -> str:
    return _shown([f"{one.canonical} {list(weights[one.canonical])}" for one in named])


def _paths(named: Sequence[Named]) -> str:
    return _shown([f"{one.entry.path} {list(one.entry.shape)}" for one in named])


def _doubtful(ours: Sequence[Layer], theirs: Sequence[Layer], weights: dict[str, Shape], where: str) -> InputError:
    weights_of = [one for layer in ours for one in layer.members.values()]
    paths = [one for layer in theirs for one in layer.members.values()]
    rules = [_rule(paths[0].entry.path, _fitting(paths[0], weights_of, weights))] if paths else []
    return InputError(
        "weights that could be paired in more than one way, by their names, shapes and order", where=where,
        got=_paths(paths), expected=f"one for each of {_names(weights_of, weights)}",
        next_step=f"say which is which, as in {_shown(rules)}",
    )  # fmt: skip


def _fitting(one: Named, among: Sequence[Named], weights: dict[str, Shape]) -> str:
    fitting = [other.canonical for other in among if place(one.entry, weights[other.canonical]) is not None]
    alike = [name for name in fitting if name.rpartition(".")[2] == one.part]
    return (alike or fitting or [other.canonical for other in among])[0]


def _left_over(empty: Sequence[Named], left: Sequence[Named], weights: dict[str, Shape], where: str) -> InputError:
    """What has no counterpart, and the rule that would give it one."""
    own = {one.canonical for one in empty}
    biases = [one for one in (*empty, *left) if one.kind == "recurrent" and one.part == "bias"]
    ours = sum(one.canonical in own for one in biases)
    if biases and 0 < ours < len(biases) and ours != len(biases) - ours:
        twice = [one for one in biases if (one.canonical in own) == (ours > len(biases) - ours)]
        second = [one for one in twice if one.role == "hh"] or twice
        pattern = _pattern(second[0].entry.path)
        next_step = f"keep the second bias at zero on the side that has two, by {pattern} = {{ zero = true }}"
    elif empty and left:
        next_step = (
            f"if they are the same, add a rule, as in {_rule(left[0].entry.path, _fitting(left[0], empty, weights))}"
        )
    elif left:
        next_step = "build both sides with the same layers and biases"
    else:
        next_step = "build both sides with the same layers and biases; rules may say that one array holds several"
    return InputError(
        "weights without a counterpart", where=where, got=_paths(left),
        expected=f"one for each of {_names(empty, weights)}" if empty else "none left", next_step=next_step,
    )  # fmt: skip
