"""The smallest faults that the check finds in the examples' ports: `python -m tests.calibration.port_smallest`.

A kind is an edit of the port with a size in it, relative to the right value. Sizes are 1, 2 and 5 times powers of ten;
the smallest is sought by bisection, in float64. Told means that the check says something: it disagrees, or agrees with
the note that beyond float32's rounding the two are not the same. A port of which it says that without any fault, as a
layer of its framework computes with a constant in float32, has no such size. A line of a table is printed for each
fault, as the examples' READMEs have them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceoff.results.agreements import BELOW_FLOAT32
from faceoff.results.file import write_text
from tests.calibration.port_fault import replace_once, side_of
from tests.calibration.port_planting import REFUSED, PortPlanter, Verdict

SIZES = (*(float(f"{digit}e{exponent}") for exponent in range(-14, 0) for digit in (1, 2, 5)), 1.0)


@dataclass(frozen=True)
class SizedFault:
    """A fault with a size.

    Args:
        example: a folder of `impls/examples`.
        name: what is off.
        there: the text that stands in the port once.
        written: what a mistaken author wrote, with `SIZE` in it.
    """

    example: str
    name: str
    there: str
    written: str

    def plant(self, size: float) -> Callable[[Path], None]:
        """What edits a copy of the example."""
        return lambda folder: replace_once(
            folder / side_of("jax"), self.there, self.written.replace("SIZE", repr(size)), self.name
        )


def _head_bias(example: str, there: str) -> SizedFault:
    return SizedFault(example, "bias of the head", there, f"({there} + SIZE * self.head.bias[...])")


HEAD_AND_MEAN = "self.head(jnp.mean(self.norm(x), axis=1))"
FAULTS = (
    SizedFault("transformer", "epsilon of the last norm", "self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5",
               "self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5 * (1 + SIZE)"),
    _head_bias("transformer", HEAD_AND_MEAN),
    SizedFault("transformer", "mask: the last token, hidden by this share", "jnp.mean(self.norm(x), axis=1)",
               "jnp.mean(self.norm(x).at[:, -1].multiply(1 - SIZE), axis=1)"),
    SizedFault("gru", "epsilon of the norm", "epsilon=1e-5", "epsilon=1e-5 * (1 + SIZE)"),
    _head_bias("gru", "self.head(self.norm(x))"),
    SizedFault("gru", "mask: padding that comes through", "[..., None], 0.0, self.embedding(tokens))",
               "[..., None], SIZE * (y := self.embedding(tokens)), y)"),
    SizedFault("unet", "epsilon of batch norm", "epsilon=1e-5", "epsilon=1e-5 * (1 + SIZE)"),
    SizedFault("unet", "momentum of batch norm", "momentum=0.9", "momentum=0.9 * (1 - SIZE)"),
    _head_bias("unet", "self.head(x)"),
    SizedFault("mobilenet", "epsilon of batch norm", "epsilon=1e-3", "epsilon=1e-3 * (1 + SIZE)"),
    SizedFault("mobilenet", "momentum of batch norm", "momentum=0.99", "momentum=0.99 * (1 - SIZE)"),
    _head_bias("mobilenet", "self.head(jnp.mean(nnx.hard_swish(self.last(x)), axis=(1, 2)))"),
    SizedFault("autoencoder", "epsilon of one group norm", "nnx.GroupNorm(many, GROUPS, epsilon=1e-5",
               "nnx.GroupNorm(many, GROUPS, epsilon=1e-5 * (1 + SIZE)"),
    SizedFault("autoencoder", "bias of the mean", "self.mean(seen)", "(self.mean(seen) + SIZE * self.mean.bias[...])"),
    SizedFault("autoencoder", "mask: the last row of pixels, hidden by this share", "self.encoder(picture[..., None])",
               "self.encoder(picture.at[:, -1].multiply(1 - SIZE)[..., None])"),
)  # fmt: skip


def smallest(ask: Callable[[float], Verdict], is_found: Callable[[Verdict], bool]) -> float | None:
    """The smallest of `SIZES` that is found, if all larger ones are; None where the largest is overlooked."""
    if not is_found(ask(SIZES[-1])):
        return None
    low, high = -1, len(SIZES) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_found(ask(SIZES[middle])) else (middle, high)
    return SIZES[high]


def disagrees(verdict: Verdict) -> bool:
    """Whether the port is called wrong."""
    return verdict.outcome in ("disagrees", REFUSED)


def is_told(verdict: Verdict) -> bool:
    """Whether anything is said."""
    return disagrees(verdict) or BELOW_FLOAT32 in verdict.note


def line_of(found: Mapping[str, Any]) -> str:
    """What was found as a line of a table."""
    sizes = ("–" if size is None else f"{size:g}" for size in (found["told"], found["disagrees"]))
    return f"| {found['fault']} | {' | '.join(sizes)} |"


def keep(path: Path, found: dict[str, Any]) -> None:
    """Puts what was found into the file, in the order of `FAULTS`."""
    known = json.loads(path.read_text()) if path.exists() else []
    by_name = {(entry["example"], entry["fault"]): entry for entry in [*known, found]}
    ordered = [by_name[fault.example, fault.name] for fault in FAULTS if (fault.example, fault.name) in by_name]
    write_text(path, json.dumps(ordered, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of the examples' names")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument("--out", type=Path, help="a JSON file for what was found; those of other examples stay in it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faceoff-") as folder, PortPlanter(Path(folder), asked.seed) as planter:
        for fault in FAULTS:
            if asked.only not in fault.example:
                continue
            known: dict[float, Verdict] = {}

            def ask(size: float, fault: SizedFault = fault, known: dict[float, Verdict] = known) -> Verdict:
                if size not in known:
                    known[size] = planter.ask(fault.example, fault.plant(size))
                return known[size]

            told = None if is_told(ask(0.0)) else smallest(ask, is_told)
            found = {
                "example": fault.example, "fault": fault.name, "told": told, "disagrees": smallest(ask, disagrees),
            }  # fmt: skip
            print(f"{found['example']}: {line_of(found)}", flush=True)
            if asked.out:
                keep(asked.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
