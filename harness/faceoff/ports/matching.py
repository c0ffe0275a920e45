"""Which layer of the reference's side is which of another side: by name, by shape, by order, or not to be said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from faceoff.core.own import Placed
from faceoff.ports.entries import Shape, place
from faceoff.ports.names import OUT, QUERY_KEY_VALUE, Named, Word, is_statistic, likeness, role_of, words_of

# Part, role and gate.
Member = tuple[str, str, str]
# Positions of layers, the reference's and the side's.
Group = tuple[list[int], list[int]]


@dataclass
class Layer:
    """Weights of a side that stand together."""

    place: tuple[str, ...]
    kind: str
    members: dict[Member, Named]
    words: tuple[Word, ...] = ()

    @property
    def stems(self) -> tuple[str, ...]:
        """What its names mean, without numbers."""
        return tuple(word.stem for word in self.words)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The numbers in its names."""
        return tuple(word.rank for word in self.words)

    @property
    def role(self) -> str:
        """Query, key, value or out; empty for every other layer."""
        return role_of(self.place)


@dataclass
class Pairs:
    """What was found.

    Attributes:
        found: pairs of positions, the reference's and the side's, and how each was found.
        doubtful: positions that could be paired in more than one way, the reference's and the side's.
    """

    found: dict[int, tuple[int, str]] = field(default_factory=dict)
    doubtful: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))


def layers_of(named: Sequence[Named]) -> list[Layer]:
    """Weights by the layers that they belong to, in the order in which these begin."""
    layers: dict[tuple[str, ...], Layer] = {}
    for one in named:
        key, number = one.place, 1
        member = (one.part, one.role, one.label)
        # Two of a kind in one place are no parts of one layer.
        while key in layers and (member in layers[key].members or layers[key].kind != one.kind):
            number += 1
            key = (*one.place, str(number))
        layers.setdefault(key, Layer(key, one.kind, {})).members[member] = one
    found = _with_biases_of_separable(layers)
    for layer in found:
        roles = {role for part, role, _ in layer.members if part == "bias"}
        if len(roles) == 1:
            # Where there is one bias, it does not matter to which of the two products a side adds it.
            layer.members = {
                (part, "" if part == "bias" else role, label): one for (part, role, label), one in layer.members.items()
            }
    for layer, words in zip(found, words_of([layer.place for layer in found]), strict=True):
        layer.words = words
    return _by_numbers(found) if _is_sorted(found) else found


def _with_biases_of_separable(layers: dict[tuple[str, ...], Layer]) -> list[Layer]:
    """The one bias of two convolutions in one layer belongs to the second."""
    for key, layer in list(layers.items()):
        second = layers.get((*key, "pointwise"))
        bias, weight = ("bias", "", ""), ("weight", "", "")
        if second is not None and set(layer.members) == {bias} and set(second.members) == {weight}:
            second.members.update(layers.pop(key).members)
    return list(layers.values())


def _is_sorted(layers: Sequence[Layer]) -> bool:
    """Whether layers stand as their names do in a dictionary: then their order may mean nothing."""
    places = [layer.place for layer in layers]
    padded = [[re.sub(r"\d+", lambda digits: digits[0].zfill(9), name) for name in place] for place in places]
    return len(places) > 2 and (places == sorted(places) or padded == sorted(padded))


def _by_numbers(layers: list[Layer]) -> list[Layer]:
    """Sorted layers whose names differ in numbers alone, in the order of these: 2 before 10."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, layer in enumerate(layers):
        alike.setdefault(layer.stems, []).append(index)
    found = list(layers)
    for indices in alike.values():
        for index, layer in zip(indices, sorted((layers[i] for i in indices), key=lambda x: x.ranks), strict=True):
            found[index] = layer
    return found


def fit(reference: Layer, side: Layer, shapes: dict[str, Shape]) -> dict[str, Placed] | None:
    """Where a side's layer keeps the weights of a reference's one, by canonical name; None if it is another layer."""
    if reference.kind and side.kind and reference.kind != side.kind:
        return None
    if reference.role and side.role and reference.role != side.role:
        return None
    theirs = _members(side, reference)
    if set(_members(reference, side)) != set(theirs):
        return None
    found = {}
    for member, one in _members(reference, side).items():
        placed = place(theirs[member].entry, shapes[one.canonical])
        if placed is None or is_statistic(one.entry) != is_statistic(theirs[member].entry):
            return None
        if _is_order_unknown(one.entry.stacked, theirs[member].entry.stacked):
            return None
        found[one.canonical] = placed
    return found


def _is_order_unknown(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether one side alone tells the order of three gates, for which there is no usual one."""
    told = set(ours) | set(theirs)
    return ours != theirs and len(told) == 3 and told != set(QUERY_KEY_VALUE)


def _members(layer: Layer, other: Layer) -> dict[Member, Named]:
    """By part, role and gate; the scale of a norm that the other side does not know as one is a weight."""
    if layer.kind == other.kind:
        return layer.members
    plain = {("weight" if m[0] == "scale" else m[0], m[1], m[2]): one for m, one in layer.members.items()}
    return plain if len(plain) == len(layer.members) else layer.members


def pair(reference: Sequence[Layer], side: Sequence[Layer], shapes: dict[str, Shape]) -> Pairs:
    """Pairs the layers of two sides as far as that can be said."""
    return _Pairing(reference, side, shapes).run()


def _key(layer: Layer, shapes: dict[str, Shape]) -> Hashable:
    """All of a layer that decides what it fits."""
    members = frozenset(
        (m, shapes.get(one.canonical), replace(one.entry, path="", to=""), is_statistic(one.entry))
        for m, one in layer.members.items()
    )
    return layer.kind, layer.role, members


class _Pairing:
    def __init__(self, reference: Sequence[Layer], side: Sequence[Layer], shapes: dict[str, Shape]) -> None:
        self.reference, self.side = reference, side
        # Deep models repeat few layers many times.
        numbers: dict[Hashable, int] = {}
        ours = [numbers.setdefault(_key(layer, shapes), len(numbers)) for layer in reference]
        theirs = [numbers.setdefault(_key(layer, {}), len(numbers)) for layer in side]
        known: dict[tuple[int, int], bool] = {}
        for i, one in enumerate(ours):
            for j, other in enumerate(theirs):
                if (one, other) not in known:
                    known[one, other] = fit(reference[i], side[j], shapes) is not None
        self.fits = [[known[one, other] for other in theirs] for one in ours]
        self.pairs = Pairs()

    def run(self) -> Pairs:
        self._by_equal_names()
        ordered = {i: j for group in self._groups() for i, j in self._in_order(*group).items()}
        self._by_like_names(ordered)
        self._by_shape()
        self._by_order()
        return self.pairs

    def _free(self) -> tuple[list[int], list[int]]:
        taken = {j for j, _ in self.pairs.found.values()}
        ours = [i for i in range(len(self.reference)) if i not in self.pairs.found]
        return ours, [j for j in range(len(self.side)) if j not in taken]

    def _by_equal_names(self) -> None:
        ours = Counter(layer.words for layer in self.reference)
        theirs = Counter(layer.words for layer in self.side)
        for i, one in enumerate(self.reference):
            for j, other in enumerate(self.side):
                same = one.words == other.words and ours[one.words] == theirs[one.words] == 1
                if same and one.words and self.fits[i][j]:
                    self.pairs.found[i] = (j, "name")

    def _by_like_names(self, ordered: dict[int, int]) -> None:
        """Pairs whose names are more like each other's than any other's, unless the order says something else."""
        while True:
            ours, theirs = self._free()
            best_of_ours = {i: self._only_best(i, theirs) for i in ours}
            best_of_theirs = {j: self._only_best_for(j, ours) for j in theirs}
            found = {i: j for i, j in best_of_ours.items() if j is not None and best_of_theirs[j] == i}
            new = {i: j for i, j in found.items() if ordered.get(i, j) == j}
            if not new:
                return
            self.pairs.found.update({i: (j, "name") for i, j in new.items()})

    def _likeness(self, i: int, j: int) -> tuple[int, int]:
        one, other = self.reference[i].words, self.side[j].words
        ranked = {word for word in one if word.count > 1} & {word for word in other if word.count > 1}
        return likeness(one, other), len(ranked)

    def _only_best(self, i: int, among: list[int]) -> int | None:
        return _only_best({j: self._likeness(i, j) for j in among if self.fits[i][j]})

    def _only_best_for(self, j: int, among: list[int]) -> int | None:
        return _only_best({i: self._likeness(i, j) for i in among if self.fits[i][j]})

    def _by_shape(self) -> None:
        """Pairs of which each fits no other."""
        while True:
            ours, theirs = self._free()
            new = {}
            for i in ours:
                fitting = [j for j in theirs if self.fits[i][j]]
                if len(fitting) == 1 and sum(self.fits[k][fitting[0]] for k in ours) == 1:
                    new[i] = (fitting[0], "shape")
            if not new:
                return
            self.pairs.found.update(new)

    def _by_order(self) -> None:
        for ours, theirs in self._groups():
            ordered = self._in_order(ours, theirs)
            free = self._free()[0]
            left = [i for i in ours if i in free]
            agree = bool(ordered) and all(self.pairs.found[i][0] == ordered[i] for i in ours if i in self.pairs.found)
            if agree and not self._names_object(left, ordered):
                crossed = self._crossed(left, ordered)
                self.pairs.found.update({i: (ordered[i], "order") for i in left if i not in crossed})
                left = [i for i in left if i in crossed]
            others = self._free()[1]
            doubtful = [i for i in left if any(self.fits[i][j] for j in others)]
            self.pairs.doubtful[0].extend(doubtful)
            self.pairs.doubtful[1].extend(j for j in theirs if j in others and any(self.fits[i][j] for i in doubtful))

    def _crossed(self, left: list[int], ordered: dict[int, int]) -> set[int]:
        """Layers whose order is another on the two sides, as that of a short cut and what it goes around.

        A layer that is found for certain lies before one of the two that order pairs, and behind the other; so none of
        those that fit each other and that it parts can be told by their order.
        """
        found: set[int] = set()
        if _is_sorted(self.reference) or _is_sorted(self.side):
            return found  # The order of names crosses that of others anyway.
        certain = [(k, other) for k, (other, how) in self.pairs.found.items() if how != "order"]
        for i in left:
            j, rivals = ordered[i], [r for r in left if r != i and self.fits[i][ordered[r]]]
            for k, other in certain:
                if (i < k) != (j < other):
                    parted = [r for r in rivals if (i < k) != (r < k) or (j < other) != (ordered[r] < other)]
                    found.update([i, *parted] if parted else [])
        return found

    def _names_object(self, ours: list[int], ordered: dict[int, int]) -> bool:
        """Whether names say another pairing than the order does, or the order is one of names alone."""
        sorted_alone = _is_sorted(self.reference) != _is_sorted(self.side)
        for i in ours:
            for k in ours:
                if i == k or not self.fits[i][ordered[k]]:
                    continue
                if self._likeness(i, ordered[k])[0] > self._likeness(i, ordered[i])[0]:
                    return True
                for layers, one, other in ((self.reference, i, k), (self.side, ordered[i], ordered[k])):
                    first, second = layers[min(one, other)], layers[max(one, other)]
                    if first.stems == second.stems and first.ranks > second.ranks:
                        return True
                    if first.stems != second.stems and sorted_alone and _is_sorted(layers):
                        return True
        return False

    def _in_order(self, ours: list[int], theirs: list[int]) -> dict[int, int]:
        """One by one, where the two sequences are the same; else empty."""
        if len(ours) != len(theirs) or not all(self.fits[i][j] for i, j in zip(ours, theirs, strict=True)):
            return {}
        return dict(zip(ours, theirs, strict=True))

    def _kinds(self) -> tuple[list[str], list[str]]:
        """Of every layer; where a side does not tell it, the one that all layers have which fit; else empty."""
        ours, theirs = [layer.kind for layer in self.reference], [layer.kind for layer in self.side]
        for_ours = [{kind for kind, fits in zip(theirs, row, strict=True) if fits} for row in self.fits]
        for_theirs = [{kind for kind, row in zip(ours, self.fits, strict=True) if row[j]} for j in range(len(theirs))]
        return (
            [kind or _only(others) for kind, others in zip(ours, for_ours, strict=True)],
            [kind or _only(others) for kind, others in zip(theirs, for_theirs, strict=True)],
        )

    def _groups(self) -> list[Group]:
        """Layers of one kind and role on both sides, in order; those together of which a side does not tell these."""
        of_ours, of_theirs = self._kinds()

        def by_kind(group: Group) -> list[Group]:
            known = all(of_ours[i] for i in group[0]) and all(of_theirs[j] for j in group[1])
            return _parted(group, of_ours, of_theirs, dict.fromkeys(of_ours)) if known else [group]

        def by_role(group: Group) -> list[Group]:
            ours, theirs = [layer.role for layer in self.reference], [layer.role for layer in self.side]
            roles = Counter(ours[i] for i in group[0]), Counter(theirs[j] for j in group[1])
            # Each of query, key, value and out says what it is; their own order means nothing.
            told = roles[0] == roles[1] and len(roles[0]) > 1
            return _parted(group, ours, theirs, ("", *QUERY_KEY_VALUE, OUT)) if told else [group]

        whole = list(range(len(self.reference))), list(range(len(self.side)))
        # What has a role may be all that is of an unknown kind.
        groups = [part for kind in by_kind(whole) for role in by_role(kind) for part in by_kind(role)]
        return [group for group in groups if group[0] and group[1]]


def _parted(group: Group, of_ours: Sequence[str], of_theirs: Sequence[str], values: Iterable[str]) -> list[Group]:
    """The layers of a group by what is said of each, in the order of `values`."""
    return [
        ([i for i in group[0] if of_ours[i] == value], [j for j in group[1] if of_theirs[j] == value])
        for value in values
    ]


def _only(kinds: set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else ""


def _only_best(scores: dict[int, tuple[int, int]]) -> int | None:
    """What alone has the highest score, if names have a word in common at all."""
    if not scores:
        return None
    best = max(scores.values())
    having = [index for index, score in scores.items() if score == best]
    return having[0] if best[0] > 0 and len(having) == 1 else None
