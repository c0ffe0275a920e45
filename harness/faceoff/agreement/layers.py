"""Layer by layer, where a port of a user's own model leaves its reference's way.

Every paired layer is compared twice: as it comes, and in a run in which it is given what the reference's layer is
given, and gives on what that returns. In that run nothing is wrong because of what was wrong before. So the first value
that differs in it is where the difference is made: by the layer that returns it, or between the layers, if one is given
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from faceoff.agreement.comparison import compare_quantity
from faceoff.agreement.layer_pairs import Call, Layouts, calls_of, pair_layers
from faceoff.agreement.noise import Noise, Values
from faceoff.core.own import Port
from faceoff.core.weights import carrier_dtype, round_to
from faceoff.results.agreements import PathPoint, Quantity

INPUTS, OUTPUTS = "inputs", "outputs"
# The whole, which has no path.
MODEL = ""
# More weights outside of layers than these are no place.
MOST_LOOSE = 3
# What such a layer does is known, so whoever has another output there is wrong, however it goes on.
PLAIN = ("linear", "convolution", "transposed convolution", "norm", "embedding", "recurrent")

Ask = Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
"""What a side replies to `layers`, with these values forced."""


class LayersOfReference(Protocol):
    """The reference's side; `forced` are values for its own layers, as `Model.layers` takes them."""

    def layers(self, dtype: str, training: bool, forced: Mapping[str, Any] | None) -> dict[str, Call]:
        """Its calls, undisturbed, in float64; the whole model is one of them, `MODEL`."""

    def noise_of_layers(
        self, dtype: str, training: bool, forced: Mapping[str, Any] | None, like: str
    ) -> dict[str, Noise]:
        """The rounding noise of every array, by `key_of`, as large as in the dtype `like`."""


def key_of(part: str, call: str, number: int) -> str:
    """What an array of a call is called."""
    return f"{part} {number} of {call}"


def with_model(reply: Mapping[str, Any]) -> dict[str, Call]:
    """The calls of a reply, and the whole model as one that is entered first and left last."""
    calls = calls_of(reply)
    last = max((call.left for call in calls.values()), default=0) + 1
    found = reply["outputs"]
    outputs = list(found.values()) if isinstance(found, Mapping) else [found]
    return {**calls, MODEL: Call(MODEL, "", 0, last, [], outputs)}


def values_of(calls: Mapping[str, Call]) -> Values:
    """Every float array of every call by `key_of`."""
    return {
        key_of(part, call.name, number): np.asarray(value, dtype=np.float64)
        for call in calls.values()
        for part in (INPUTS, OUTPUTS)
        for number, value in enumerate(call.arrays(part))
        if value.dtype.kind == "f"
    }


@dataclass
class Event:
    """What a layer is given, or what it returns, on both sides.

    Attributes:
        call: of the reference's layer.
        part: `INPUTS` or `OUTPUTS`.
        came: as it comes: the array that is farthest off.
        fed: the same where everything before is the reference's; None where that could not be tried.
        coarser: as it comes it agrees as float32 would, and not beyond.
        fed_coarser: likewise.
        otherwise: it differs, and what comes after it agrees: the sides are cut into layers at another place.
    """

    call: Call
    part: str
    came: Quantity
    coarser: bool = False
    fed: Quantity | None = None
    fed_coarser: bool = False
    otherwise: bool = False

    @property
    def differs(self) -> bool:
        """As it comes, in meaning."""
        return not self.came.agrees and not self.coarser

    @property
    def is_cause(self) -> bool:
        """Whether the difference is made here, all before being right."""
        own = self.fed is not None and not self.fed.agrees and not self.fed_coarser
        return own and self.differs and not self.otherwise


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        points: every layer, in the order in which the reference's end.
        count: how many layers were compared.
        agrees: whether the whole model does.
        place: where the difference is made; empty if nowhere.
        sentence: the same at length.
    """

    points: list[PathPoint]
    count: int
    agrees: bool
    place: str = ""
    sentence: str = ""


class LayerSearch:
    """Compares the layers of one side with the reference's, in one mode.

    Args:
        port: the model.
        framework: of the side.
        dtype: working dtype.
        training: batch statistics.
        reference: its side.
        ask: the side.
    """

    def __init__(
        self, port: Port, framework: str, dtype: str, training: bool, reference: LayersOfReference, ask: Ask
    ) -> None:
        self._port, self._dtype, self._training = port, dtype, training
        self._reference, self._ask = reference, ask
        self._mode = "training" if training else "inference"
        ours, theirs = reference.layers(dtype, training, None), with_model(ask(None))
        self._pairs = [*pair_layers(port, framework, ours, theirs), (ours[MODEL], theirs[MODEL])]
        self._of_side = {call.name: other.name for call, other in self._pairs}
        layouts = Layouts()
        self._layouts = {
            (call.name, part): layouts.match(call.arrays(part), other.arrays(part))
            for call, other in self._pairs
            for part in (INPUTS, OUTPUTS)
        }
        self._events = self._compare(ours, theirs)
        self._mark_otherwise(theirs)

    def run(self) -> Found:
        """What the layers show; raises WorkerError."""
        forced = self._forced()
        theirs = with_model(self._ask({self._of_side[name]: value for name, (_, value) in forced.items()}))
        own = {name: value for name, (value, _) in forced.items()}
        ours = self._reference.layers(self._dtype, self._training, own)
        for event in self._events:
            call, other = ours.get(event.call.name), theirs.get(self._of_side[event.call.name])
            if call is not None and other is not None:
                judged = self._judge(call, other, event.part, own)
                if judged is not None:
                    event.fed, event.fed_coarser = judged
        cause = next((number for number, event in enumerate(self._events) if event.is_cause), None)
        place, sentence = ("", "") if cause is None else self._told(cause)
        agrees = not any(event.differs for event in self._events if event.call.name == MODEL)
        return Found(self._points(cause), len(self._pairs) - 1, agrees, place, sentence)

    def _compare(self, ours: Mapping[str, Call], theirs: Mapping[str, Call]) -> list[Event]:
        """Every event of every pair, as it comes, in the order of the reference's."""
        found: list[tuple[int, Event]] = []
        for call, other in self._pairs:
            for part, when in ((INPUTS, call.entered), (OUTPUTS, call.left)):
                judged = self._judge(ours[call.name], theirs[other.name], part, None)
                if judged is not None:
                    found.append((when, Event(call, part, *judged)))
        return [event for _, event in sorted(found, key=lambda pair: pair[0])]

    def _judge(
        self, call: Call, other: Call, part: str, forced: Mapping[str, Any] | None
    ) -> tuple[Quantity, bool] | None:
        """The array of a call that is farthest off, and whether it agrees as float32 would; None without any."""
        asked = self._dtype, self._training, forced
        noise = self._reference.noise_of_layers(*asked, self._dtype)
        found: list[tuple[Quantity, bool]] = []
        for number, (place, layout) in self._layouts[call.name, part].items():
            value, key = call.arrays(part)[number], key_of(part, call.name, number)
            if value.dtype.kind != "f" or place >= len(other.arrays(part)):
                continue
            got = other.arrays(part)[place]
            if got.shape != layout.shape:
                return None
            # A layer may return another dtype than the model's, which has to be right at the end alone.
            got = layout.to_reference(got, value.shape).astype(carrier_dtype(self._dtype))
            quantity = compare_quantity(key, got, value, self._dtype, noise[key])
            coarser = False
            if not quantity.agrees and self._dtype == "float64":
                wider = self._reference.noise_of_layers(*asked, "float32")[key]
                coarser = compare_quantity(key, got, value, self._dtype, wider).agrees
            found.append((quantity, coarser))
        return max(found, key=lambda pair: _badness(pair[0]), default=None)

    def _mark_otherwise(self, theirs: Mapping[str, Call]) -> None:
        """Marks what differs though all that follows from it agrees, from the end to the beginning."""
        after = False
        for event in reversed(self._events):
            other = theirs[self._of_side[event.call.name]]
            plain = event.part == OUTPUTS and event.call.kind == other.kind and event.call.kind in PLAIN
            event.otherwise = event.differs and after and not plain
            after = not event.differs or event.otherwise

    def _forced(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """By layer: the values that are forced on the reference itself, and on the side. Innermost layers alone are."""
        otherwise = {(event.call.name, event.part) for event in self._events if event.otherwise}
        found = {}
        for call, other in self._pairs:
            if any(call.holds(one) or other.holds(another) for one, another in self._pairs):
                continue
            own: dict[str, Any] = {}
            given: dict[str, Any] = {}
            for part in (INPUTS, OUTPUTS):
                values = [self._rounded(value) for value in call.arrays(part)]
                matched = {} if (call.name, part) in otherwise else self._layouts[call.name, part]
                own[part] = [value if number in matched else None for number, value in enumerate(values)]
                given[part] = [None] * len(other.arrays(part))
                for number, (place, layout) in matched.items():
                    given[part][place] = layout.to_side(values[number])
            found[call.name] = own, given
        return found

    def _rounded(self, value: np.ndarray) -> np.ndarray:
        """As the working dtype has it, so that both sides are fed the same."""
        return round_to(value, self._dtype) if value.dtype.kind == "f" else value

    def _told(self, cause: int) -> tuple[str, str]:
        """Place and sentence of the event that makes the difference."""
        event = self._events[cause]
        assert event.fed is not None
        name, other = event.call.name, self._of_side[event.call.name]
        units = event.fed.problem or f"{event.fed.noise_units or 0.0:.2g} noise units off"
        last = self._events[cause - 1] if cause else None
        before = last.call.name if last and (last.part == OUTPUTS or last.call.is_recorded) else ""
        inside = any(event.call.holds(call) for call, _ in self._pairs)
        called = name if other == name else f"{name} (there {other})"
        both = name if other == name else f"{name}, there {other}"
        if event.part == OUTPUTS and not inside:
            agree = "all layers before it agree" if cause else "it is the first layer"
            return f"{both} ({self._mode})", (
                f"{called} makes it: fed with the reference's input it is {units}; {agree}"
            )
        loose = self._loose()
        if event.part == OUTPUTS:
            where = f"after {before}" if before else "outside of its layers"
            place, who = (f"{both}, {where}", called) if name else (where, "the model")
            return f"{place}{loose} ({self._mode})", (
                f"{who} makes it {where}: fed with the reference's values its layers agree, and its output is {units}"
            )
        where = f"between {before} and {name}" if before else f"before {name}"
        what = called if event.call.is_recorded else f"the input of {called}"
        return f"{where}{loose} ({self._mode})", (
            f"what lies {where}{loose} makes it: all layers before agree, and {what} is {units}"
        )

    def _loose(self) -> str:
        """`, or with 'positions'`: weights that no paired layer holds, which may be what lies between two."""
        paths = {call.path for call, _ in self._pairs if call.name != MODEL}
        own = self._port.side(self._port.reference).weights
        loose = [n for n, at in own.items() if not any(at.path.startswith((f"{p}.", f"{p}/")) for p in paths)]
        return f", or with {', '.join(map(repr, loose))}" if 0 < len(loose) <= MOST_LOOSE else ""

    def _points(self, cause: int | None) -> list[PathPoint]:
        """The outputs of every layer, recorded values, and where a difference is made between layers, that."""
        found = []
        for number, event in enumerate(self._events):
            if event.call.name == MODEL:
                continue
            if event.part == INPUTS and number != cause and not event.call.is_recorded:
                continue
            what = "" if event.call.is_recorded else "output of " if event.part == OUTPUTS else "input of "
            problem = event.came.problem
            if event.otherwise:
                problem = "cut otherwise: what follows agrees"
            elif event.coarser:
                problem = "below float32's rounding"
            fed = event.fed
            found.append(
                PathPoint(
                    name=f"{what}{event.call.name} ({self._mode})",
                    agrees=event.came.agrees or event.coarser or event.otherwise,
                    noise_units=event.came.noise_units,
                    problem=problem,
                    fed_units=None if fed is None else fed.noise_units,
                    fed_agrees=None if fed is None or event.otherwise else fed.agrees or event.fed_coarser,
                    first=number == cause,
                )
            )
        return found


def _badness(quantity: Quantity) -> float:
    return float("inf") if quantity.noise_units is None else quantity.noise_units
