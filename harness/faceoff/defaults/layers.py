"""Measures the defaults of layers: normalisation, padding, activations, precision, loss, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from faceoff.defaults.asking import Asker
from faceoff.defaults.atlas import Finding
from faceoff.defaults.fitting import FitError, fit_epsilon
from faceoff.reference.arithmetic import unit_roundoff

NORMALISATION, PADDING, ACTIVATION = "normalisation", "padding", "activation"
PRECISION, LOSS, DROPOUT = "precision", "loss", "dropout"
PRECISION_ON_GPU = "precision on the GPU"
PRODUCT, CONVOLUTION = "float32 matrix product", "float32 convolution"
GRID = np.linspace(-6, 6, 241, dtype=np.float32)
# A product in float32 stays below this many units of its own rounding; ten bits less stand a thousand above.
FLOAT32_UNITS = 8.0
IGNORED_LABEL = -100


def measure_normalisation(asker: Asker) -> None:
    """Epsilons, the share of the new batch in the running statistics, and which variance enters them."""
    rng = asker.rng()
    rows = 8
    # Variances from 1e-6 to 1, so that an epsilon of any usual size shows in one of the channels.
    x = (rng.standard_normal((rows, 7)) * 10.0 ** np.linspace(-3, 0, 7)).astype(np.float32)
    # A mean far from 0 shows how much of it enters, but would cost the small variances their digits.
    x[:, -1] += 3
    exact = x.astype(np.float64)
    mean, variance = exact.mean(axis=0), exact.var(axis=0)

    def epsilon() -> Finding:
        found = asker.ask("batch_norm", x=x, other=x)
        few = slice(0, -1)
        value = fit_epsilon(found["training"][:, few], (exact - mean)[:, few], variance[few], "batch_norm")
        return Finding(words=f"epsilon {value:.2g}", numbers={"epsilon": value})

    def share() -> Finding:
        found = asker.ask("batch_norm", x=x, other=x)
        before, after = found["mean_before"].astype(np.float64), found["mean"].astype(np.float64)
        value = float((after - before) @ (mean - before) / np.sum((mean - before) ** 2))
        error = float(np.abs((1 - value) * before + value * mean - after).max() / np.abs(after).max())
        if not (0 < value < 1 and error < 1e-5):
            raise FitError("the running mean is no weighted mean", where="batch_norm", got=f"error {error:.2g}")
        return Finding(words=f"new batch counts {value:.3g}", numbers={"share": value})

    def running_variance() -> Finding:
        found = asker.ask("batch_norm", x=x, other=x)
        new = share().numbers["share"]
        entered = (found["variance"] - (1 - new) * found["variance_before"].astype(np.float64)) / new
        ratio = float(entered[-1] / variance[-1])
        for words, expected in (("biased (over n)", 1.0), ("unbiased (over n - 1)", rows / (rows - 1))):
            if abs(ratio - expected) < 1e-3:
                return Finding(words=words, numbers={"ratio_to_biased": ratio, "rows": rows})
        raise FitError(
            "the variance that enters is neither", where="batch_norm", got=f"{ratio:.4g} times the biased one"
        )

    def layer_norm() -> Finding:
        y = asker.ask("layer_norm", x=np.ascontiguousarray(x[:, :-1].T))["y"].T
        value = fit_epsilon(y, (exact - mean)[:, :-1], variance[:-1], "layer_norm")
        return Finding(words=f"epsilon {value:.2g}", numbers={"epsilon": value})

    asker.note(NORMALISATION, "batch-norm epsilon", epsilon)
    asker.note(NORMALISATION, "batch-norm momentum", share)
    asker.note(NORMALISATION, "batch-norm running variance", running_variance)
    asker.note(NORMALISATION, "layer-norm epsilon", layer_norm)


def correlate(x: np.ndarray, kernel: np.ndarray, before: int, after: int, stride: int) -> np.ndarray:
    """One image `(height, width)` with zeros before and after both axes, correlated with a square kernel."""
    padded = np.pad(x.astype(np.float64), (before, after))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)[::stride, ::stride]
    return np.asarray(np.einsum("ijkl,kl->ij", windows, kernel))


def find_padding(asker: Asker, size: int, kernel_size: int, stride: int, by_number: bool) -> Finding:
    """Zeros before and after each axis, from where an impulse at the corner comes out; proved on a random image.

    Raises:
        FitError: no padding with zeros explains it.
    """
    kernel = np.arange(1, kernel_size**2 + 1, dtype=np.float32).reshape(kernel_size, kernel_size)
    impulse = np.zeros((size, size), dtype=np.float32)
    impulse[0, 0] = 1
    options = {"kernel": kernel, "stride": stride, "by_number": by_number}
    y = asker.ask("padded", x=impulse, **options)["y"]
    rows, columns = np.nonzero(np.abs(kernel - y[0, 0]) < 1e-3)
    if len(rows) != 1 or rows[0] != columns[0]:
        raise FitError("the impulse does not come out", where="padded", got=f"{y[0, 0]:g} in the corner")
    before = int(rows[0])
    after = (y.shape[0] - 1) * stride + kernel_size - size - before
    image = asker.rng().standard_normal((size, size)).astype(np.float32)
    got = asker.ask("padded", x=image, **options)["y"]
    expected = correlate(image, kernel, before, after, stride) if after >= 0 else np.zeros(())
    if got.shape != expected.shape or np.abs(got - expected).max() > 1e-5 * np.abs(expected).max():
        raise FitError("zeros do not explain the output", where="padded", got=f"{before} before, {after} after")
    return Finding(words=f"{before} before, {after} after", numbers={"before": before, "after": after})


def measure_padding(asker: Asker) -> None:
    """Where convolutions put their zeros."""
    for word, size, kernel_size, stride, by_number in (
        ("same, stride 2, 3x3 on even size", 8, 3, 2, False),
        ("same, stride 2, 3x3 on odd size", 9, 3, 2, False),
        ("same, stride 1, 4x4", 8, 4, 1, False),
        ("number 1, stride 2, 3x3 on even size", 8, 3, 2, True),
    ):
        asker.note(PADDING, word, partial(find_padding, asker, size, kernel_size, stride, by_number))


def gelu(x: np.ndarray, approximate: bool) -> np.ndarray:
    """Hendrycks and Gimpel 2016: x times the normal distribution function, or its approximation by tanh."""
    if approximate:
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))


def activation_forms(name: str, x: np.ndarray, y: np.ndarray) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """Formulas that `y` may follow on the grid x, each with the constants read off y: words to values and constants."""
    kind, low = name.split()[0], int(np.argmin(x))
    if kind == "gelu":
        return {"exact (erf)": (gelu(x, False), {}), "tanh approximation": (gelu(x, True), {})}
    if kind == "leaky_relu":
        slope = float(y[low] / x[low])
        return {f"slope {slope:.3g}": (np.where(x > 0, x, slope * x), {"slope": slope})}
    if kind == "elu":
        alpha = float(y[low] / np.expm1(x[low]))
        return {f"alpha {alpha:.3g}": (np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), {"alpha": alpha})}
    if kind == "selu":
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return {"scale 1.0507, alpha 1.6733": (scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), {})}
    if kind == "hard_sigmoid":
        middle = len(x) // 2
        slope = float((y[middle + 5] - y[middle - 5]) / (x[middle + 5] - x[middle - 5]))
        words = f"clip({slope:.3g} x + 0.5)"
        return {words: (np.clip(slope * x + 0.5, 0, 1), {"slope": slope})}
    sigmoid = 1 / (1 + np.exp(-x))
    plain: dict[str, tuple[str, np.ndarray]] = {
        "silu": ("x sigmoid(x)", x * sigmoid),
        "sigmoid": ("1 / (1 + exp(-x))", sigmoid),
        "softplus": ("log(1 + exp(x))", np.logaddexp(0, x)),
    }
    words, values = plain[kind]
    return {words: (values, {})}


ACTIVATIONS = (
    "gelu", "leaky_relu layer", "leaky_relu function", "elu", "selu", "silu", "sigmoid", "hard_sigmoid", "softplus",
)  # fmt: skip


def measure_activations(asker: Asker) -> None:
    """Which formula each activation follows, on a grid from -6 to 6."""

    def find(name: str) -> Finding:
        x, y = GRID.astype(np.float64), asker.ask("activation", name=name, x=GRID)["y"].astype(np.float64)
        for words, (values, constants) in activation_forms(name, x, y).items():
            error = float(np.abs(values - y).max())
            if error < 1e-5:
                return Finding(words=words, numbers={**constants, "largest_error": error})
        raise FitError("no known formula", where=name, expected="within 1e-5 on the grid")

    for name in ACTIVATIONS:
        asker.note(ACTIVATION, name, partial(find, name))


def measure_precision(asker: Asker) -> None:
    """Dtypes without a word about them, and how exact products of float32 are on the CPU."""
    wide = asker.rng().standard_normal((3, 5))

    def dtype(probe: str, value: np.ndarray, key: str = "y") -> Finding:
        found = asker.ask(probe, x=value)[key]
        bits = found.dtype.itemsize * 8
        return Finding(words=f"gives {found.dtype}", numbers={"bits": bits})

    def weight() -> Finding:
        kernel = asker.ask("dense", inputs=3, outputs=2, seed=asker.seed)["kernel"]
        return Finding(words=str(kernel.dtype), numbers={"bits": kernel.dtype.itemsize * 8})

    asker.note(PRECISION, "weights of a new layer", weight)
    asker.note(PRECISION, "array made from float64", lambda: dtype("array", wide))
    asker.note(PRECISION, "float64 input to a new layer", lambda: dtype("dense_output", wide))
    measure_products(asker, PRECISION)


def measure_products(asker: Asker, topic: str) -> None:
    """The error of float32 products against float64 in float32's rounding, on the device that the framework takes."""
    rng = asker.rng()

    def rounding(got: np.ndarray, exact: np.ndarray, squares: np.ndarray) -> Finding:
        unit = unit_roundoff("float32") * np.sqrt(squares)
        units = float(np.sqrt(np.mean(((got - exact) / unit) ** 2)))
        if units < FLOAT32_UNITS:
            return Finding(words="float32", numbers={"noise_units": units, "bits": 24})
        # Inputs that are rounded first are off by some 0.4 units of their own dtype, both of them.
        bits = round(24 - math.log2(units))
        return Finding(words=f"inputs of about {bits} bits", numbers={"noise_units": units, "bits": bits})

    def product() -> Finding:
        a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((64, 256), (256, 64)))
        x, y = a.astype(np.float64), b.astype(np.float64)
        return rounding(asker.ask("product", a=a, b=b)["y"], x @ y, x**2 @ y**2)

    def convolution() -> Finding:
        x = rng.standard_normal((2, 12, 12, 16)).astype(np.float32)
        kernel = rng.standard_normal((8, 3, 3, 16)).astype(np.float32)
        images, weights = x.astype(np.float64), kernel.astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
        exact = np.einsum("bhwcij,oijc->bhwo", windows, weights)
        squares = np.einsum("bhwcij,oijc->bhwo", windows**2, weights**2)
        return rounding(asker.ask("convolved", x=x, kernel=kernel)["y"], exact, squares)

    asker.note(topic, PRODUCT, product)
    asker.note(topic, CONVOLUTION, convolution)


def measure_loss(asker: Asker) -> None:
    """What the cross-entropy takes, how it reduces, and what a label outside the classes does."""
    logits = asker.rng().standard_normal((5, 4)).astype(np.float32)
    targets = np.array([0, 3, 1, 2, 0])
    exact = logits.astype(np.float64)
    clipped = np.clip(exact, 1e-7, 1 - 1e-7)
    takes = {
        "logits": exact - np.log(np.exp(exact).sum(axis=1, keepdims=True)),
        "probabilities": np.log(clipped / clipped.sum(axis=1, keepdims=True)),
        "probabilities, not normalised": np.log(clipped),
    }
    reductions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean": np.mean,
        "sum": np.sum,
        "none": lambda values: values,
    }

    def find() -> tuple[str, str]:
        loss = asker.ask("cross_entropy", logits=logits, targets=targets)["loss"]
        for taken, logarithms in takes.items():
            each = -logarithms[np.arange(len(targets)), targets]
            for reduction, reduce in reductions.items():
                expected = np.asarray(reduce(each))
                if expected.shape == loss.shape and np.allclose(loss, expected, rtol=1e-4):
                    return taken, reduction
        raise FitError("no known cross-entropy", where="cross_entropy", got=loss.tolist())

    def ignored() -> Finding:
        taken, reduction = find()
        wrong = targets.copy()
        wrong[0] = IGNORED_LABEL
        loss = asker.ask("cross_entropy", logits=logits, targets=wrong)["loss"]
        each = -takes[taken][np.arange(len(targets)), np.maximum(wrong, 0)]
        kept = each[1:]
        expected = {
            "is left out": reductions[reduction](kept) if reduction != "none" else np.array([0.0, *kept]),
            "counts as class 0": reductions[reduction](each),
        }
        for words, value in expected.items():
            if np.allclose(loss, value, rtol=1e-4):
                return Finding(words=words)
        if np.isnan(loss).any():
            return Finding(words="gives NaN" if loss.ndim == 0 else "gives NaN for that example")
        raise FitError("unknown treatment", where="cross_entropy", got=loss.tolist())

    asker.note(LOSS, "cross-entropy takes", lambda: Finding(words=find()[0]))
    asker.note(LOSS, "cross-entropy reduction", lambda: Finding(words=find()[1]))
    asker.note(LOSS, f"label {IGNORED_LABEL}", ignored)


def measure_dropout(asker: Asker) -> None:
    """The share that dropout keeps in training, and how it scales what it keeps."""

    def find() -> Finding:
        rate, count = 0.25, 40_000
        found = asker.ask("dropout", x=np.ones((count,), dtype=np.float32), rate=rate, seed=asker.seed)
        kept = found["training"] != 0
        scales, inference = np.unique(found["training"][kept]), found["inference"]
        share, limit = float(kept.mean()), 5 * math.sqrt(rate * (1 - rate) / count)
        if abs(share - (1 - rate)) > limit or len(scales) != 1 or len(np.unique(inference)) != 1:
            raise FitError("no plain dropout", where="dropout", got=f"keeps {share:.3g}, scales {scales[:3].tolist()}")
        scale, later = float(scales[0]), float(inference[0])
        words = f"training × {scale:.3g}, inference × {later:.3g}"
        return Finding(words=words, numbers={"kept": share, "training_scale": scale, "inference_scale": later})

    asker.note(DROPOUT, "scaling at rate 0.25", find)
