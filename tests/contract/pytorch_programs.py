"""Small PyTorch programs, each with a construct that its rounding noise has to be told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Tensor = torch.Tensor


class Function(nn.Module):
    """A function as a module, with others that hold its weights.

    Args:
        compute: takes the modules, then the inputs.
        parts: the modules.
    """

    def __init__(self, compute: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self._compute = compute

    def forward(self, *inputs: Tensor) -> Any:
        return self._compute(*self.parts, *inputs)


@dataclass(frozen=True)
class Program:
    """A module and what it is given.

    Args:
        make: the module, in float32.
        shapes: of its inputs, drawn from a normal distribution; a number instead of a shape: as many indices below 7.
        close: how near it is undisturbed to plain float64, relative to the largest element.
    """

    make: Callable[[], nn.Module]
    shapes: Sequence[tuple[int, ...] | int]
    close: float = 1e-12


# Kernels that hold constants in float32 even where they compute in float64.
FLOAT32_CONSTANTS = 1e-6

IMAGE, SEQUENCE = (3, 4, 9, 10), (3, 6, 8)


def _plain(compute: Callable[..., Any], *shapes: tuple[int, ...] | int, close: float = 1e-12) -> Program:
    return Program(lambda: Function(compute), shapes, close)


def _chain(*parts: Callable[[], nn.Module], shape: tuple[int, ...] = IMAGE, close: float = 1e-12) -> Program:
    return Program(lambda: nn.Sequential(*(part() for part in parts)), [shape], close)


def _recurrent(kind: type[nn.Module], **options: Any) -> Program:
    return Program(
        lambda: Function(lambda layer, x: layer(x)[0], kind(8, 5, batch_first=True, **options)),
        [SEQUENCE],
    )


def _attention(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x, x, x, need_weights=False)[0]


def _masked_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _masked_softmax(x: Tensor) -> Tensor:
    hidden = torch.ones(8, 8, dtype=torch.bool).triu(1)[:6]
    return (x + torch.zeros(6, 8).masked_fill_(hidden, -torch.inf)).softmax(-1)


def _index(x: Tensor, places: Tensor) -> Tensor:
    return x[places][:, :3] * x[places, 1:2] + x.gather(0, places.unsqueeze(1).expand(-1, 8)).sum()


def _sorted(x: Tensor) -> Tensor:
    ordered, places = x.sort(-1)
    best, _ = x.exp().topk(3, -1)
    return ordered * places + best.sum(-1, keepdim=True) + x.amax(1, keepdim=True) * x.argmax()


def _scatters(x: Tensor, places: Tensor) -> Tensor:
    rows = torch.zeros(7, 8, dtype=x.dtype).index_add(0, places, x)
    spread = torch.zeros(7, 8, dtype=x.dtype).scatter_add_(0, places.unsqueeze(1).expand(-1, 8), x * x)
    placed = torch.zeros(7, 8, dtype=x.dtype).index_put_((places,), x, accumulate=True)
    means = torch.zeros(7, 8, dtype=x.dtype).scatter_reduce(0, places.unsqueeze(1).expand(-1, 8), x, "mean")
    return rows * spread + placed * means


def _in_place(x: Tensor) -> Tensor:
    y = x * 1.5
    y += x.tanh()
    y.mul_(0.3).clamp_(max=3.0)
    y[:, 0] = y[:, 1] * 0.7
    z = torch.zeros_like(y).addcmul_(x, x, value=0.3).lerp_(y, 0.7).div_(3.0)
    return z.sigmoid_() + y.exp_()


def _lists(x: Tensor, y: Tensor) -> Tensor:
    p, q = torch._foreach_add([x, y], [y, x], alpha=0.3)
    p, q = torch._foreach_addcmul([p, q], [x, y], [y, y], [0.2, 0.7])
    p, q = torch._foreach_lerp(torch._foreach_maximum([p, q], -0.5), [x, y], 0.4)
    p, q = torch._foreach_pow(1.3, torch._foreach_mul([p, q], torch.tensor(0.7, dtype=x.dtype)))
    with torch.no_grad():
        changed = torch._foreach_clone([p, q])
        torch._foreach_addcdiv_(changed, [x, y], [p, q], torch.tensor([0.1, 0.3], dtype=x.dtype))
        torch._foreach_minimum_(changed, 1.5)
    return p * q + sum(torch._foreach_norm([p, q])) + changed[0] * changed[1]


def _into_given_tensors(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = torch.add(x, 0.7, out=torch.empty_like(x))
        z = torch.matmul(y, y.transpose(1, 2), out=x.new_empty(3, 6, 6))
        m = torch.mean(z, 1, out=x.new_empty(3, 6))
    return x.mean(2) * m + z.diagonal(0, 1, 2)


def _casts(x: Tensor) -> Tensor:
    constant, table = torch.tensor(0.1), torch.arange(8, dtype=torch.float32) / 7
    weights = F.softmax(x.float(), -1, dtype=torch.float32).to(x.dtype)
    return (weights * constant + table.sin().type_as(x)) * torch.linspace(0, 1, 8)


def _dropped(x: Tensor) -> Tensor:
    torch.manual_seed(5)
    return F.dropout(x.exp(), 0.4) * 2.5


def _statistics(x: Tensor) -> Tensor:
    return (
        x.var(1) + x.std((1, 2), keepdim=True)[:, 0] + torch.var_mean(x, 2)[0].mean() + x.logsumexp(1) + x.norm(dim=1)
    )


def _products(x: Tensor) -> Tensor:
    y = 1 + 0.1 * x
    return y.cumprod(1).sum(0) + y.prod(2).prod() + y.prod() + x.cumsum(2)[0] + x.logcumsumexp(1)[1]


def _losses(x: Tensor, y: Tensor) -> Tensor:
    p, q = x.sigmoid(), y.sigmoid()
    return (
        F.mse_loss(x, y)
        + F.l1_loss(x, y)
        + F.huber_loss(x, y)
        + F.smooth_l1_loss(x, y)
        + F.binary_cross_entropy(p, q)
        + F.binary_cross_entropy_with_logits(x, q)
        + F.kl_div(x.log_softmax(-1), y.softmax(-1), reduction="batchmean")
        + F.cosine_embedding_loss(x[0], y[0], torch.ones(6))
        + F.gaussian_nll_loss(x, y, p)
        + F.poisson_nll_loss(x, q)
    )


def _cross_entropy(x: Tensor, targets: Tensor) -> Tensor:
    targets = targets.view(3, 4)
    everywhere = F.cross_entropy(x, targets, ignore_index=2, label_smoothing=0.1)
    return everywhere + F.cross_entropy(x.transpose(1, 2).reshape(-1, 7), targets.flatten(), reduction="none").sum()


def _cross_entropy_of_images(x: Tensor, targets: Tensor) -> Tensor:
    weight = torch.linspace(0.5, 2, 7, dtype=x.dtype)
    return F.cross_entropy(x.unflatten(2, (2, 2)), targets.view(3, 2, 2), weight=weight, ignore_index=0)


def _activations(x: Tensor) -> Tensor:
    return F.gelu(x) + F.gelu(x, approximate="tanh") + F.silu(x) + F.mish(x) + F.elu(x) + F.softplus(x) + F.selu(x)


def _hard_activations(x: Tensor) -> Tensor:
    found = F.hardswish(x) + F.hardsigmoid(x) + F.leaky_relu(x) + F.relu6(x) + F.softsign(x) + F.tanhshrink(x)
    return found + F.logsigmoid(x) + F.glu(x).repeat(1, 1, 2) + F.celu(x)


def _pads(x: Tensor) -> Tensor:
    return sum(F.pad(x, (2, 1, 1, 2), mode=mode) for mode in ("constant", "reflect", "replicate", "circular"))


def _resized(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest") + F.interpolate(
        x, size=(18, 20), mode="bilinear", align_corners=True
    )


def _resized_otherwise(x: Tensor) -> Tensor:
    smaller = F.interpolate(x, size=(5, 6), mode="bilinear") + F.interpolate(x, size=(5, 6), mode="bicubic")
    return smaller + F.interpolate(x.unsqueeze(2), size=(2, 5, 6), mode="trilinear")[:, :, 1]


def _pools(x: Tensor) -> Tensor:
    y = F.max_pool2d(x, 3, 2, padding=1) + F.avg_pool2d(x, 3, 2, padding=1)
    return (
        y.mean()
        + F.adaptive_avg_pool2d(x, (4, 3))
        + F.adaptive_max_pool2d(x, (4, 3))
        + F.lp_pool2d(x.exp(), 2, 3).mean()
    )


def _other_pools(x: Tensor) -> Tensor:
    rows, volume = x[:, 0], x.unsqueeze(2).repeat(1, 1, 3, 1, 1)
    y = F.max_pool1d(rows, 3, 1).mean() + F.avg_pool1d(rows, 3, 2).mean() + F.adaptive_avg_pool1d(rows, 4).mean()
    return y + F.max_pool3d(volume, 2, 1) + F.avg_pool3d(volume, 2, 1) + F.adaptive_avg_pool3d(volume, (2, 8, 9))


def _windows(x: Tensor) -> Tensor:
    y = F.fold(F.unfold(x, 3, padding=1) ** 2, (9, 10), 3, padding=1)
    return y + F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) + x.roll(1, 2).flip(3)


def _einsum(x: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("bij,bkj->bik", x, y) @ torch.einsum("bij,bij->bj", x, y)[:, :6, None]


def _matrices(x: Tensor, y: Tensor) -> Tensor:
    v = y[0, 0]
    a = torch.addmm(x[1], x[0], y[0].T @ y[1], beta=0.5, alpha=2.0) + torch.addmv(x[0, :, 0], x[0], v).unsqueeze(1)
    b = torch.baddbmm(x[:, :, :6], x, y.transpose(1, 2)).sum(0) @ x[0] + torch.addbmm(x[0], x[:, :, :6], y)
    return a + b + torch.dot(v, x[0, 0]) + torch.outer(x[0, :, 0], v) + torch.addr(x[1], x[0, :, 0], v)


class _Squared(torch.autograd.Function):
    """x exp(x), with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.exp()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.exp() + x * x.exp())


def _mapped(x: Tensor) -> Tensor:
    return torch.vmap(lambda row: row.softmax(-1) * row.square().sum())(x) + _Squared.apply(x)


def _twice_differentiated(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    y = F.softplus(layer(x))
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y, (slope.norm(2, -1) - 1).square().mean()


def _packed(layer: nn.Module, x: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 4, 3]), batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(layer(packed)[0])[0]


def _distances(x: Tensor, y: Tensor) -> Tensor:
    every = torch.cdist(x, y) + torch.cdist(x, y, p=1) + torch.cdist(x, y, p=3.0)
    pairs = F.pairwise_distance(x, y) + F.cosine_similarity(x, y, dim=-1)
    return every + pairs.unsqueeze(-1) + F.pdist(x[0]).mean() + F.triplet_margin_loss(x, y, x.flip(0))


def _bags(mean: nn.Module, total: nn.Module, places: Tensor, factors: Tensor) -> Tensor:
    bags = places.view(4, 3)
    return mean(bags) * total(bags, per_sample_weights=factors)


def _sampled(x: Tensor, turn: Tensor) -> Tensor:
    places = F.affine_grid(turn, [3, 4, 5, 6], align_corners=False)
    return F.grid_sample(x, places, align_corners=False) + F.grid_sample(x, places, "nearest", "border", True)


def _spectra(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x)
    turned = spectrum[:, :, :4] * torch.polar(torch.ones(4), torch.arange(4.0) / 3)
    mixed = torch.einsum("bix,bjx->bjx", turned, torch.view_as_complex(x.unflatten(2, (4, 2))))
    return torch.fft.irfft(mixed, 8) + torch.fft.fft2(x).abs() + (x / (1 + x * 1j)).angle()


def _layers() -> dict[str, Program]:
    labels = (3, 7, 4)
    return {
        "dense": _chain(lambda: nn.Linear(8, 16), nn.Tanh, lambda: nn.Linear(16, 7), shape=SEQUENCE),
        "convolutions of images": _chain(lambda: nn.Conv2d(4, 6, 3, 2, 1), nn.Tanh, lambda: nn.Conv2d(6, 5, 3)),
        "grouped convolutions": _chain(
            lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1),
            lambda: nn.Conv2d(8, 8, 3, groups=8, dilation=2, bias=False),
        ),
        "transposed convolutions": _chain(
            lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
            lambda: nn.ConvTranspose2d(6, 4, 2, groups=2),
        ),
        "convolutions of rows": _chain(
            lambda: nn.Conv1d(6, 8, 3, padding="same"), lambda: nn.ConvTranspose1d(8, 4, 3, 2), shape=SEQUENCE
        ),
        "convolutions of volumes": _chain(
            lambda: nn.Conv3d(2, 4, 3, padding=1), lambda: nn.ConvTranspose3d(4, 2, 2, 2), shape=(2, 2, 4, 5, 4)
        ),
        "batch norm": _chain(lambda: nn.Conv2d(4, 6, 3, padding=1), lambda: nn.BatchNorm2d(6), lambda: nn.Softplus()),
        "batch norm in inference": _chain(lambda: nn.BatchNorm2d(4).eval(), lambda: nn.Conv2d(4, 2, 3)),
        "layer norm and RMS norm": _chain(lambda: nn.LayerNorm(8), lambda: nn.RMSNorm(8), shape=SEQUENCE),
        "group norm and instance norm": _chain(
            lambda: nn.GroupNorm(2, 4), lambda: nn.InstanceNorm2d(4, affine=True), lambda: nn.Conv2d(4, 2, 3)
        ),
        "weights by norm and direction": Program(
            lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 5)), [SEQUENCE]
        ),
        "bilinear layer": Program(lambda: nn.Bilinear(8, 8, 5), [SEQUENCE, SEQUENCE]),
        "embedding": Program(lambda: nn.Sequential(nn.Embedding(7, 5, padding_idx=1), nn.Linear(5, 4)), [12]),
        "recurrent layer": _recurrent(nn.RNN),
        "LSTM layers in both directions": _recurrent(nn.LSTM, num_layers=2, bidirectional=True),
        "GRU layer": _recurrent(nn.GRU),
        "sequences of several lengths": Program(
            lambda: Function(_packed, nn.LSTM(8, 5, bidirectional=True, proj_size=3, batch_first=True)), [SEQUENCE]
        ),
        "second derivative": Program(lambda: Function(_twice_differentiated, nn.Linear(8, 5)), [SEQUENCE]),
        "bags of embeddings": Program(
            lambda: Function(_bags, nn.EmbeddingBag(7, 5, padding_idx=1), nn.EmbeddingBag(7, 5, mode="sum")),
            [12, (4, 3)],
        ),
        "LSTM cell": Program(
            lambda: Function(lambda cell, x: cell(x[:, 0], cell(x[:, 1]))[0], nn.LSTMCell(8, 5)), [SEQUENCE]
        ),
        "attention": Program(
            lambda: Function(_attention, nn.MultiheadAttention(8, 2, batch_first=True)),
            [SEQUENCE],
        ),
        "Transformer": Program(
            lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, activation="gelu"),
            [SEQUENCE],
        ),
        "Transformer in inference": Program(
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval(), [SEQUENCE]
        ),
        "cross-entropy of sequences": _plain(_cross_entropy, labels, 12),
        "cross-entropy of images": _plain(_cross_entropy_of_images, labels, 12),
    }


PROGRAMS = {
    **_layers(),
    "masked attention": _plain(_masked_attention, *[(2, 2, 6, 4)] * 3),
    "masked softmax": _plain(_masked_softmax, SEQUENCE),
    "softmax and its logarithm": _plain(lambda x: x.softmax(1) * x.log_softmax(-1), SEQUENCE),
    "activations": _plain(_activations, SEQUENCE),
    "hard activations": _plain(_hard_activations, SEQUENCE, close=FLOAT32_CONSTANTS),
    "losses": _plain(_losses, SEQUENCE, SEQUENCE),
    "statistics": _plain(_statistics, SEQUENCE),
    "products of all": _plain(_products, SEQUENCE),
    "einsum": _plain(_einsum, SEQUENCE, SEQUENCE),
    "matrices": _plain(_matrices, SEQUENCE, SEQUENCE),
    "indexing": _plain(_index, (7, 8), 12),
    "sorting": _plain(_sorted, SEQUENCE),
    "scatters": _plain(_scatters, (12, 8), 12),
    "in place": _plain(_in_place, SEQUENCE),
    "lists of tensors": _plain(_lists, SEQUENCE, SEQUENCE),
    "into given tensors": _plain(_into_given_tensors, SEQUENCE),
    "casts and constants": _plain(_casts, SEQUENCE, close=FLOAT32_CONSTANTS),
    "dropout": _plain(_dropped, SEQUENCE),
    "padding": _plain(_pads, IMAGE),
    "resizing": _plain(_resized, IMAGE),
    "other resizing": _plain(_resized_otherwise, IMAGE),
    "pooling": _plain(_pools, IMAGE),
    "other pooling": _plain(_other_pools, IMAGE),
    "windows": _plain(_windows, IMAGE),
    "sampling": _plain(_sampled, IMAGE, (3, 2, 3)),
    "spectra": _plain(_spectra, SEQUENCE, close=FLOAT32_CONSTANTS),
    "distances": _plain(_distances, SEQUENCE, SEQUENCE),
    "mapped and own functions": _plain(_mapped, SEQUENCE),
}
