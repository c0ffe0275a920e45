"""Real inputs: shapes, splits, reproducible order, and files that are wrong."""

import numpy as np
import pytest

from faceoff.core.errors import InputError
from faceoff.core.spec import DenseSpec, LstmSpec, ResidualSpec, RnnSpec
from faceoff.core.weights import check_batch
from faceoff.workloads.data import (
    ALPHABET,
    Dataset,
    held_out_batches,
    load_cifar10,
    load_digits,
    load_text,
    make_batch,
    training_batches,
)
from faceoff.workloads.trainings import make_tasks

DIGITS = load_digits(0)
TEXT = load_text(12)


def cifar_bytes(classes: list[int]) -> bytes:
    """Records of CIFAR-10's binary version: image k is k in red, 10 + k in green, 20 + k in blue, first pixel 255."""
    records = []
    for index, number in enumerate(classes):
        planes = np.concatenate([np.full(1024, 10 * plane + index, np.uint8) for plane in range(3)])
        planes[0] = 255
        records.append(bytes([number]) + planes.tobytes())
    return b"".join(records)


@pytest.fixture
def cifar(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes([3, 9]))
    (tmp_path / "data_batch_2.bin").write_bytes(cifar_bytes([0]))
    (tmp_path / "test_batch.bin").write_bytes(cifar_bytes([7]))
    return tmp_path


def test_all_digits_are_there_once_and_the_test_part_is_apart():
    assert len(DIGITS.train_x) + len(DIGITS.test_x) == 1797
    assert DIGITS.train_x.shape[1:] == (8, 8, 1)
    assert DIGITS.train_x.max() == 1.0
    other = load_digits(1)
    assert not np.array_equal(other.train_y, DIGITS.train_y)
    assert sorted([*other.train_y, *other.test_y]) == sorted([*DIGITS.train_y, *DIGITS.test_y])


def test_the_target_of_a_character_is_the_next_one():
    np.testing.assert_array_equal(TEXT.train_y[:, :-1], TEXT.train_x[:, 1:])
    np.testing.assert_array_equal(TEXT.train_y[:-1, -1], TEXT.train_x[1:, 0])
    assert TEXT.train_x.max() < len(ALPHABET)
    assert "assert" in "".join(ALPHABET[code] for code in TEXT.train_x[:200].reshape(-1))


@pytest.mark.parametrize(
    ("spec", "dataset"),
    [
        (DenseSpec((64, 10)), DIGITS),
        (ResidualSpec(8, 8, 1, (4,), 1), DIGITS),
        (RnnSpec(8, 4, 10, 8), DIGITS),
        (LstmSpec(len(ALPHABET), 4, len(ALPHABET), 12, many_to_many=True), TEXT),
    ],
    ids=["dense", "residual", "rnn", "lstm-text"],
)
def test_batches_fit_their_model(spec, dataset):
    for batch in (*training_batches(spec, dataset, 30, 3, 0), *held_out_batches(spec, dataset, 30, 2)):
        check_batch(spec, 30, batch)


def test_rows_of_an_image_become_the_steps_of_a_sequence():
    batch = make_batch(RnnSpec(8, 4, 10, 8), DIGITS, DIGITS.train_x[:2], DIGITS.train_y[:2])
    np.testing.assert_array_equal(batch.inputs["x"][1, 5], DIGITS.train_x[1, 5, :, 0])
    assert not batch.inputs["h0"].any()


def test_a_character_is_one_hot():
    spec = LstmSpec(len(ALPHABET), 4, len(ALPHABET), 12, many_to_many=True)
    x = make_batch(spec, TEXT, TEXT.train_x[:3], TEXT.train_y[:3]).inputs["x"]
    np.testing.assert_array_equal(x.argmax(-1), TEXT.train_x[:3])
    np.testing.assert_array_equal(x.sum(-1), 1)


def test_every_example_comes_once_before_any_comes_again_and_the_seed_decides():
    spec = DenseSpec((64, 10))
    numbered = Dataset(
        "n", np.arange(20.0)[:, None].repeat(64, 1), np.zeros(20, "int64"), DIGITS.test_x, DIGITS.test_y, 10
    )
    batches = training_batches(spec, numbered, 5, 8, 0)
    seen = [value for batch in batches[:4] for value in batch.inputs["x"][:, 0]]
    assert sorted(seen) == list(range(20))
    again, other = training_batches(spec, numbered, 5, 8, 0), training_batches(spec, numbered, 5, 8, 1)
    assert all(np.array_equal(a.inputs["x"], b.inputs["x"]) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0].inputs["x"], other[0].inputs["x"])


def test_cifar_records_become_images_with_channels_last(cifar):
    dataset = load_cifar10(cifar)
    assert dataset.train_x.shape == (3, 32, 32, 3)
    assert dataset.test_x.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(dataset.train_y, [3, 9, 0])
    np.testing.assert_allclose(dataset.train_x[1, 5, 7] * 255, [1, 11, 21], rtol=1e-6)
    assert dataset.train_x[0, 0, 0, 0] == 1.0


def test_a_cifar_file_that_is_cut_off_is_refused_by_name(cifar):
    (cifar / "data_batch_2.bin").write_bytes(cifar_bytes([1])[:-1])
    with pytest.raises(InputError, match=r"data_batch_2\.bin: cut off; got 3072 bytes"):
        load_cifar10(cifar)


def test_a_cifar_class_above_nine_is_refused_with_its_record(cifar):
    (cifar / "test_batch.bin").write_bytes(cifar_bytes([1, 10]))
    with pytest.raises(InputError, match="record 1: not a class; got 10"):
        load_cifar10(cifar)


def test_a_folder_without_cifar_says_what_it_needs(tmp_path):
    with pytest.raises(InputError, match="data_batch_1"):
        load_cifar10(tmp_path / "nowhere")
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_bytes([1]))
    with pytest.raises(InputError, match=r"test_batch\.bin"):
        load_cifar10(tmp_path)


def test_a_nan_in_a_data_set_is_refused():
    spoilt = DIGITS.train_x[:60].copy()
    spoilt[7, 0, 0, 0] = np.nan
    dataset = Dataset("spoilt digits", spoilt, DIGITS.train_y[:60], DIGITS.test_x, DIGITS.test_y, 10)
    with pytest.raises(InputError, match=r"spoilt digits.*not a finite number"):
        training_batches(DenseSpec((64, 10)), dataset, 60, 1, 0)


def test_too_few_examples_for_a_batch_are_refused():
    with pytest.raises(InputError, match="at least one batch of 5000"):
        training_batches(DenseSpec((64, 10)), DIGITS, 5000, 1, 0)


def test_the_main_job_trains_every_family_and_adds_cifar_when_it_is_given(cifar):
    every = make_tasks(["dense", "residual", "rnn", "lstm"], None, "cpu", 0)
    assert {task.workload.model.kind for task in every} == {"dense", "residual", "rnn", "lstm"}
    assert any(task.workload.model.kind == "lstm" and task.workload.model.many_to_many for task in every)
    assert [task.name for task in make_tasks(["rnn"], None, "cpu", 0)] == ["rnn on digits, row by row"]
    (cifar / "data_batch_1.bin").write_bytes(cifar_bytes([index % 10 for index in range(40)]))
    (cifar / "test_batch.bin").write_bytes(cifar_bytes([index % 10 for index in range(20)]))
    names = [task.name for task in make_tasks(["dense", "residual"], cifar, "cpu", 0)]
    assert "dense on CIFAR-10" in names
    assert "residual on CIFAR-10" in names
