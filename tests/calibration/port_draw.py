"""Random sizes of users' own models, for the study of false alarms: the examples, and the built-in families written as
a user would, in PyTorch and JAX (`tests/calibration/port_models`).

A model's sizes are constants at the top of its files. A case is a copy with other constants, and a manifest that says
the same. It depends only on the seed of the draw and its own number.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit

from faceoff.core.spec import Optimiser
from tests.calibration.draw import DTYPES, DTYPES_OF_A_MODEL, draw_optimiser, log_uniform
from tests.calibration.port_fault import EXAMPLES

FAMILIES = Path(__file__).parent / "port_models"
Rng = np.random.Generator


@dataclass(frozen=True)
class Sizes:
    """Drawn sizes of a model.

    Args:
        constants: of its files, by name.
        inputs: the shape of one example of each input.
        targets: the shape of one example's targets.
        classes: of the targets; None where they are no classes.
        tokens: how many there are, where an input is of tokens.
    """

    constants: Mapping[str, Any]
    inputs: Mapping[str, tuple[int, ...]]
    targets: tuple[int, ...] = ()
    classes: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class DrawnPort:
    """One model as it was drawn.

    Args:
        seed, number: of the draw, and of the case in it.
        sizes: of the model.
        batch_size: of every step.
        settings: dtypes, each with its optimiser.
        seeds: of weights and batches, one for each task.
    """

    seed: int
    number: int
    sizes: Sizes
    batch_size: int
    settings: tuple[tuple[str, Optimiser], ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """What `--again` begins with."""
        return f"{self.seed}/{self.number}"

    @property
    def kind(self) -> str:
        """Which example or family it is."""
        return kind_of(self.number)

    def generator(self, purpose: int) -> Rng:
        """Chance for anything else that belongs to this case."""
        return np.random.default_rng([self.seed, self.number, purpose])

    def write(self, folder: Path) -> Path:
        """Writes the model's files; returns their new folder, in `folder`."""
        source, target = folder_of(self.kind), folder / f"{self.kind}-{self.seed}-{self.number}"
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for file in sorted(target.glob("*_model.py")):
            file.write_text(with_constants(file.read_text(), self.sizes.constants))
        manifest = tomlkit.parse((target / "port.toml").read_text()).unwrap()
        for name, shape in self.sizes.inputs.items():
            manifest["inputs"][name]["shape"] = list(shape)
            if "below" in manifest["inputs"][name]:
                manifest["inputs"][name]["below"] = self.sizes.tokens
        manifest["targets"]["shape"] = list(self.sizes.targets)
        if self.sizes.classes is not None:
            manifest["targets"]["classes"] = self.sizes.classes
        (target / "port.toml").write_text(tomlkit.dumps(manifest))
        return target


def folder_of(kind: str) -> Path:
    """Where an example or a family lies."""
    return (EXAMPLES if (EXAMPLES / kind).is_dir() else FAMILIES) / kind


def with_constants(text: str, constants: Mapping[str, Any]) -> str:
    """A module's text with other values of its constants; those that are not named stay."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets
        is_tuple = isinstance(target, ast.Tuple)
        names = [ast.unparse(name) for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
        there = ast.literal_eval(node.value)
        values = dict(zip(names, there if is_tuple else [there], strict=True)) | {
            name: constants[name] for name in names if name in constants
        }
        assert node.end_lineno == node.lineno
        written = ", ".join(repr(value) for value in values.values())
        lines[node.lineno - 1] = f"{', '.join(names)} = {written}"
    return "\n".join(lines) + "\n"


def _transformer(rng: Rng) -> Sizes:
    tokens, length, heads = log_uniform(rng, 2, 1000), log_uniform(rng, 1, 64), log_uniform(rng, 1, 8)
    classes = log_uniform(rng, 2, 100)
    constants = {
        "TOKENS": tokens, "LENGTH": length, "WIDTH": heads * log_uniform(rng, 2, 32), "HEADS": heads,
        "HIDDEN": log_uniform(rng, 1, 256), "LAYERS": int(rng.integers(1, 4)), "CLASSES": classes,
    }  # fmt: skip
    return Sizes(constants, {"tokens": (length,)}, (), classes, tokens)


def _gru(rng: Rng) -> Sizes:
    tokens, length, classes = log_uniform(rng, 2, 1000), log_uniform(rng, 1, 64), log_uniform(rng, 2, 100)
    constants = {
        "TOKENS": tokens, "LENGTH": length, "WIDTH": log_uniform(rng, 1, 64), "HIDDEN": log_uniform(rng, 1, 128),
        "LAYERS": int(rng.integers(1, 4)), "CLASSES": classes,
    }  # fmt: skip
    return Sizes(constants, {"tokens": (length,)}, (length,), classes, tokens)


def _unet(rng: Rng) -> Sizes:
    # Halved twice, and the smallest pictures keep more than one place: batch norm has no variance of one value.
    side, classes, colours = 4 * log_uniform(rng, 2, 8), log_uniform(rng, 2, 20), log_uniform(rng, 1, 4)
    constants = {
        "CHANNELS": (colours, *(log_uniform(rng, 2, 32) for _ in range(3))), "CLASSES": classes, "SIDE": side,
    }  # fmt: skip
    return Sizes(constants, {"picture": (colours, side, side)}, (side, side), classes)


def _mobilenet(rng: Rng) -> Sizes:
    side, classes, strides = 2 * log_uniform(rng, 2, 16), log_uniform(rng, 2, 100), (1, 2, 1)
    blocks = tuple(
        (4 * log_uniform(rng, 1, 24), log_uniform(rng, 2, 32), int(rng.choice((3, 5))), stride) for stride in strides
    )
    constants = {
        "STEM": log_uniform(rng, 2, 32), "LAST": log_uniform(rng, 2, 128), "CLASSES": classes, "SIDE": side,
        "BLOCKS": blocks,
    }  # fmt: skip
    return Sizes(constants, {"picture": (3, side, side)}, (), classes)


def _autoencoder(rng: Rng) -> Sizes:
    side, groups, code = log_uniform(rng, 1, 8), log_uniform(rng, 1, 8), log_uniform(rng, 1, 64)
    channels = (1, groups * log_uniform(rng, 2, 8), groups * log_uniform(rng, 2, 8))
    constants = {"CHANNELS": channels, "GROUPS": groups, "SIDE": side, "CODE": code}
    picture = (4 * side, 4 * side)
    return Sizes(constants, {"picture": picture, "noise": (code,)}, picture)


def _dense(rng: Rng) -> Sizes:
    sizes = (*(log_uniform(rng, 1, 512) for _ in range(int(rng.integers(1, 4)))), log_uniform(rng, 2, 128))
    return Sizes({"SIZES": sizes, "ACTIVATION": str(rng.choice(("relu", "tanh")))}, {"x": sizes[:1]}, (), sizes[-1])


def _recurrent(*states: str) -> Callable[[Rng], Sizes]:
    def drawn(rng: Rng) -> Sizes:
        inputs, length, layers = log_uniform(rng, 1, 128), log_uniform(rng, 1, 100), int(rng.integers(1, 4))
        hidden, classes, many = log_uniform(rng, 1, 256), log_uniform(rng, 2, 128), bool(rng.random() < 0.5)
        constants = {"INPUTS": inputs, "HIDDEN": hidden, "LAYERS": layers, "CLASSES": classes, "MANY": many}
        shapes = {"x": (length, inputs), **dict.fromkeys(states, (layers, hidden))}
        return Sizes(constants, shapes, (length,) if many else (), classes)

    return drawn


def _residual(rng: Rng) -> Sizes:
    stages = int(rng.integers(1, 4))
    # The last stage keeps more than one place.
    side, colours, classes = (
        2 ** (stages - 1) * log_uniform(rng, 2, 10),
        log_uniform(rng, 1, 4),
        log_uniform(rng, 2, 100),
    )
    constants = {
        "COLOURS": colours, "WIDTHS": tuple(log_uniform(rng, 2, 32) for _ in range(stages)),
        "BLOCKS": int(rng.integers(1, 3)), "CLASSES": classes,
    }  # fmt: skip
    return Sizes(constants, {"picture": (colours, side, side)}, (), classes)


DRAWS: Mapping[str, Callable[[Rng], Sizes]] = {
    "transformer": _transformer, "dense": _dense, "unet": _unet, "rnn": _recurrent("hidden"), "gru": _gru,
    "lstm": _recurrent("hidden", "cell"), "mobilenet": _mobilenet, "residual": _residual, "autoencoder": _autoencoder,
}  # fmt: skip
KINDS = tuple(DRAWS)


def kind_of(number: int) -> str:
    """The example or family of case `number`."""
    return KINDS[number % len(KINDS)]


def draw_port(seed: int, number: int, tasks: int) -> DrawnPort:
    """Case `number` of the draw.

    Args:
        seed: of the draw.
        number: of the case; examples and families take turns.
        tasks: how many seeds of weights and batches.
    """
    rng = np.random.default_rng([seed, number])
    sizes = DRAWS[kind_of(number)](rng)
    names = list(DTYPES)
    chosen = rng.choice(len(names), DTYPES_OF_A_MODEL, replace=False, p=list(DTYPES.values()))
    settings = tuple((names[index], draw_optimiser(rng, names[index], False)) for index in sorted(chosen))
    # One example alone has no variance to divide by where pictures are small.
    batch_size = log_uniform(rng, 2, 32)
    seeds = tuple(int(value) for value in rng.integers(0, 2**31, tasks))
    return DrawnPort(seed, number, sizes, batch_size, settings, seeds)
