"""How much a workload computes and moves at least, counted from its sizes: what any implementation has to do.

Counted are the multiplications and additions of matrix products and convolutions, backward ones included; activations,
batch norm, loss and optimiser are not, as they cost time but few operations. The bytes are those that must pass between
memory and processor when everything else stays close by: weights, optimiser state, a batch and what is returned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from faceoff.core.own import port_of
from faceoff.core.spec import DenseSpec, ModelSpec, OwnSpec, RecurrentSpec, ResidualSpec, Workload
from faceoff.core.weights import classes_of, float_inputs, input_shapes, is_statistic, target_shape, weight_shapes

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# A loss, and a class as a target.
LOSS_BYTES, CLASS_BYTES = 4, 8


@dataclass(frozen=True)
class Work:
    """Of one call.

    Args:
        flops: floating-point operations of matrix products; a multiplication and an addition are two.
        bytes: that must be read or written once.
    """

    flops: int
    bytes: int


@dataclass(frozen=True)
class _Product:
    """A product with a weight: operations forward, and those of the gradient by what it is multiplied with."""

    forward: int
    by_input: int


def count_work(workload: Workload) -> Work:
    """The work of one call of `workload`."""
    products = list(_products(workload.model, workload.batch_size, needs_inputs=workload.step == "gradients"))
    flops = sum(product.forward for product in products)
    if workload.step != "inference":
        # By every weight it costs what forward costs.
        flops += sum(product.forward + product.by_input for product in products)
    return Work(flops, _count_bytes(workload))


def counted_flops(workload: Workload) -> int | None:
    """Operations of one call; None of a user's own model where its reference's framework does not count them."""
    if not isinstance(workload.model, OwnSpec):
        return count_work(workload).flops
    of_one = port_of(workload.model).flops.get(workload.step)
    return None if of_one is None else of_one * workload.batch_size


def counted_bytes(workload: Workload) -> int | None:
    """Bytes that one call moves at least; None of a user's own model: it may read few rows of a table of weights."""
    return None if isinstance(workload.model, OwnSpec) else count_work(workload).bytes


def result_bytes(workload: Workload) -> int:
    """Of what one call returns; a training step returns its loss and changes the weights in place.

    Of a user's own model the outputs are taken to be as many as the targets, or as the classes of each.
    """
    item, model, size = ITEM_BYTES[workload.storage_dtype], workload.model, workload.batch_size
    if workload.step == "inference":
        return item * math.prod(target_shape(model, size)) * max(1, classes_of(model))
    if workload.step == "training":
        return LOSS_BYTES
    weights = sum(math.prod(shape) for name, shape in weight_shapes(model).items() if not is_statistic(name))
    shapes = input_shapes(model, size)
    return LOSS_BYTES + item * (weights + sum(math.prod(shapes[name]) for name in float_inputs(model)))


def _products(spec: ModelSpec, batch_size: int, needs_inputs: bool) -> Iterator[_Product]:
    """Every product; `needs_inputs`: the gradient by the model's own inputs is computed too."""
    first = True
    for forward in _forward(spec, batch_size):
        yield _Product(forward, forward if needs_inputs or not first else 0)
        first = False
    if isinstance(spec, RecurrentSpec):
        for _ in range(spec.num_layers):
            step = 2 * batch_size * spec.num_gates * spec.hidden_size * spec.hidden_size
            # The gradient by the initial state is that of an input.
            yield _Product(spec.sequence_length * step, (spec.sequence_length - (not needs_inputs)) * step)


def _forward(spec: ModelSpec, batch_size: int) -> Iterator[int]:
    """Operations of every product that no time step waits for, that with the model's input first."""
    if isinstance(spec, DenseSpec):
        for inputs, outputs in zip(spec.layer_sizes, spec.layer_sizes[1:], strict=False):
            yield 2 * batch_size * inputs * outputs
    elif isinstance(spec, ResidualSpec):
        height, width = spec.height, spec.width
        yield 2 * batch_size * height * width * 9 * spec.channels * spec.stage_widths[0]
        for _, incoming, outgoing, stride in spec.blocks():
            height, width = -(-height // stride), -(-width // stride)
            pixels = batch_size * height * width
            yield 2 * pixels * 9 * incoming * outgoing
            yield 2 * pixels * 9 * outgoing * outgoing
            if stride != 1 or incoming != outgoing:
                yield 2 * pixels * incoming * outgoing
        yield 2 * batch_size * spec.stage_widths[-1] * spec.output_size
    elif isinstance(spec, RecurrentSpec):
        rows = batch_size * spec.sequence_length
        for layer in range(spec.num_layers):
            inputs = spec.hidden_size if layer else spec.input_size
            yield 2 * rows * inputs * spec.num_gates * spec.hidden_size
        yield 2 * (rows if spec.many_to_many else batch_size) * spec.hidden_size * spec.output_size


def _count_bytes(workload: Workload) -> int:
    item, model = ITEM_BYTES[workload.storage_dtype], workload.model
    assert isinstance(model, (DenseSpec, ResidualSpec, RecurrentSpec))
    shapes = weight_shapes(model)
    weights = item * sum(math.prod(shape) for name, shape in shapes.items() if not is_statistic(name))
    statistics = item * sum(math.prod(shape) for name, shape in shapes.items() if is_statistic(name))
    inputs = item * sum(math.prod(shape) for shape in input_shapes(model, workload.batch_size).values())
    targets = math.prod(target_shape(model, workload.batch_size))
    if workload.step == "inference":
        return weights + statistics + inputs + item * targets * model.output_size
    read = weights + inputs + CLASS_BYTES * targets
    if workload.step == "gradients":
        return read + LOSS_BYTES + weights + inputs
    state = weights * len(workload.optimiser.state_names)
    return read + LOSS_BYTES + weights + 2 * statistics + 2 * state
