"""Real inputs: handwritten digits, Python's help text, CIFAR-10 from a folder of its binary version.

Every data set is split in two, and batches are drawn by a seed; values are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceoff.core.errors import InputError
from faceoff.core.spec import ModelSpec, RecurrentSpec
from faceoff.core.weights import Batch, require_finite

CIFAR_RECORD_BYTES = 1 + 3072
CIFAR_CLASSES = 10
# What a typewriter has; everything else in the text becomes a space, so that the vocabulary is one on every Python.
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))


@dataclass(frozen=True)
class Dataset:
    """Examples with class numbers, split into training and test.

    Args:
        name: as tables show it.
        train_x, test_x: `(examples, height, width, channels)` images within 0 to 1, or `(examples, sequence_length)`
            character numbers.
        train_y, test_y: class numbers, int64, `(examples,)`, or `(examples, sequence_length)`.
        classes: number of classes.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


def load_digits(seed: int) -> Dataset:
    """1,797 handwritten digits, 8x8 grey (UCI, in scikit-learn); a quarter is for the test."""
    from sklearn.datasets import load_digits as load

    digits = load()
    images = (digits.images / 16.0).astype(np.float32).astype(np.float64)[..., None]
    order = np.random.default_rng(seed).permutation(len(images))
    images, classes = images[order], digits.target.astype(np.int64)[order]
    split = len(images) * 3 // 4
    return Dataset("digits", images[:split], classes[:split], images[split:], classes[split:], 10)


def load_text(sequence_length: int) -> Dataset:
    """Python's own help text, cut into sequences; the target of each character is the next one.

    The last tenth is for the test. Topics are read in alphabetical order.
    """
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    number = {character: index for index, character in enumerate(ALPHABET)}
    codes = np.array([number.get(character, number[" "]) for character in text], dtype=np.int64)
    count = (len(codes) - 1) // sequence_length
    x = codes[: count * sequence_length].reshape(count, sequence_length)
    y = codes[1 : count * sequence_length + 1].reshape(count, sequence_length)
    split = count * 9 // 10
    return Dataset("help text", x[:split], y[:split], x[split:], y[split:], len(ALPHABET))


def load_cifar10(folder: Path) -> Dataset:
    """CIFAR-10 in its binary version (Krizhevsky 2009): `data_batch_*.bin` and `test_batch.bin` in `folder`.

    A record is one byte for the class and 3072 for the image, channel by channel, each row by row.

    Raises:
        InputError: a file is missing, cut off, or holds a class above 9.
    """
    training = sorted(folder.glob("data_batch_*.bin"))
    if not training:
        found = "no such folder" if not folder.is_dir() else "none"
        raise InputError(
            "no CIFAR-10 files",
            where=str(folder),
            got=found,
            expected="data_batch_1.bin ... and test_batch.bin",
            next_step="unpack the binary version of CIFAR-10 there",
        )
    parts = [_read_cifar_file(path) for path in training]
    test_x, test_y = _read_cifar_file(folder / "test_batch.bin")
    train_x, train_y = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    return Dataset("CIFAR-10", train_x, train_y, test_x, test_y, CIFAR_CLASSES)


def _read_cifar_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        raw = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise InputError("cannot be read", where=str(path), got=error.strerror, expected="a CIFAR-10 file") from None
    if raw.size == 0 or raw.size % CIFAR_RECORD_BYTES:
        raise InputError(
            "cut off",
            where=str(path),
            got=f"{raw.size} bytes",
            expected=f"a multiple of {CIFAR_RECORD_BYTES}",
            next_step="fetch the file again",
        )
    records = raw.reshape(-1, CIFAR_RECORD_BYTES)
    classes = records[:, 0].astype(np.int64)
    if classes.max() >= CIFAR_CLASSES:
        record = int(np.argmax(classes >= CIFAR_CLASSES))
        raise InputError("not a class", where=f"{path}: record {record}", got=int(classes[record]), expected="0 to 9")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return (images / 255.0).astype(np.float32).astype(np.float64), classes


def make_batch(spec: ModelSpec, dataset: Dataset, x: np.ndarray, y: np.ndarray) -> Batch:
    """Examples in the shape that `spec` takes: flattened, images, row by row, or one-hot characters; states of zeros.

    Raises:
        InputError: the examples do not fit the model, or hold a number that is not finite.
    """
    require_finite(x, dataset.name)
    count = len(x)
    if spec.kind == "dense":
        return Batch({"x": x.reshape(count, -1)}, y)
    if not isinstance(spec, RecurrentSpec):
        return Batch({"x": x}, y)
    sequences = np.eye(dataset.classes)[x] if spec.many_to_many else x.reshape(count, spec.sequence_length, -1)
    state = np.zeros((spec.num_layers, count, spec.hidden_size))
    return Batch({"x": sequences, **dict.fromkeys(spec.state_names, state)}, y)


def training_batches(spec: ModelSpec, dataset: Dataset, batch_size: int, steps: int, seed: int) -> list[Batch]:
    """Batches for `steps` training steps: every example once before any comes again, in a seeded order."""
    rng = np.random.default_rng(seed)
    count = len(dataset.train_x)
    if count < batch_size:
        raise InputError(
            "too few examples", where=dataset.name, got=count, expected=f"at least one batch of {batch_size}"
        )
    order: list[int] = []
    while len(order) < steps * batch_size:
        order += list(rng.permutation(count)[: count // batch_size * batch_size])
    chosen = [order[index * batch_size : (index + 1) * batch_size] for index in range(steps)]
    return [make_batch(spec, dataset, dataset.train_x[rows], dataset.train_y[rows]) for rows in chosen]


def held_out_batches(spec: ModelSpec, dataset: Dataset, batch_size: int, limit: int) -> list[Batch]:
    """The first whole batches of the test examples, at most `limit`."""
    count = min(limit, len(dataset.test_x) // batch_size)
    if count == 0:
        raise InputError(
            "too few test examples", where=dataset.name, got=len(dataset.test_x), expected=f"at least {batch_size}"
        )
    slices = [slice(index * batch_size, (index + 1) * batch_size) for index in range(count)]
    return [make_batch(spec, dataset, dataset.test_x[rows], dataset.test_y[rows]) for rows in slices]
