"""Arrays that hold several weights one after the other: query, key and value, or the gates of a recurrent layer.

They are cut where another side keeps these apart, or in another order; else they stay whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from faceoff.ports.entries import Entry
from faceoff.ports.names import HIDDEN, INPUT, LSTM_GATES, QUERY_KEY_VALUE, Named, guessed_stack, name_all, role_of

Sides = Mapping[str, Sequence[Entry]]


def split_stacks(sides: Sides) -> dict[str, list[Entry]]:
    """The entries of every side, cut where that is needed to pair them."""
    found = {side: list(_with_stacks(_with_two_biases(entries))) for side, entries in sides.items()}
    for parts in _kinds_of_stacks(found):
        if _is_to_be_cut(found, parts):
            found = {side: list(_cut(entries, parts)) for side, entries in found.items()}
    return found


def _with_two_biases(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The two biases of a recurrent layer that one side keeps as two rows, each on its own."""
    for entry in entries:
        own, ruled = entry.canonical_shape, entry.to or entry.told_axes is not None
        if entry.layer == "recurrent" and entry.part.endswith("bias") and len(own) == 2 and own[0] == 2 and not ruled:
            yield from (
                replace(part, stacked=entry.stacked) for part in entry.parts(entry.axes.index(0), (INPUT, HIDDEN))
            )
        else:
            yield entry


def _with_stacks(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Entries with the names of the parts that they hold, told or guessed."""
    named = name_all(list(entries))
    gates = {
        one.place: LSTM_GATES
        for one in named
        if one.kind == "recurrent" and one.part == "weight" and one.role == HIDDEN and _has_four_gates(one.entry)
    }
    for one in named:
        entry = one.entry
        stacked = entry.stacked or guessed_stack(one)
        if not stacked and one.kind == "recurrent" and not one.label:
            stacked = gates.get(one.place, ())
        if entry.to or entry.told_axes is not None or not stacked or entry.shape[_along(entry)] % len(stacked):
            stacked = ()
        yield replace(entry, stacked=stacked)


def _has_four_gates(entry: Entry) -> bool:
    own = entry.canonical_shape
    return len(own) == 2 and own[0] == 4 * own[1]


def _along(entry: Entry) -> int:
    """The axis of the side's array along which the parts lie; of a bias of two rows, its only long one."""
    return entry.axes.index(0) if not entry.labels else len(entry.shape) - 1


def _kinds_of_stacks(sides: Sides) -> list[frozenset[str]]:
    return list(dict.fromkeys(frozenset(e.stacked) for entries in sides.values() for e in entries if e.stacked))


def _is_to_be_cut(sides: Sides, parts: frozenset[str]) -> bool:
    """Whether sides have these parts in different orders, or one of them has them apart."""
    orders = {e.stacked for entries in sides.values() for e in entries if frozenset(e.stacked) == parts}
    return len(orders) > 1 or any(_has_apart(name_all(entries), parts) for entries in sides.values())


def _has_apart(named: Sequence[Named], parts: frozenset[str]) -> bool:
    if parts == set(QUERY_KEY_VALUE):
        return parts <= {role_of(one.place) for one in named if not one.entry.stacked}
    return parts <= {one.label for one in named if one.kind == "recurrent"}


def _cut(entries: Sequence[Entry], parts: frozenset[str]) -> Iterator[Entry]:
    for entry in entries:
        if frozenset(entry.stacked) == parts:
            yield from entry.parts(_along(entry), entry.stacked)
        else:
            yield entry
