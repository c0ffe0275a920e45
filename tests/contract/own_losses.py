"""The losses of users' own models in NumPy, each with targets that fit two outputs."""

import numpy as np

from faceoff.core.own import Targets


def cross_entropy(outputs, targets):
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], axis=-1).mean()


# The two outputs are a mean and the logarithm of a variance: a loss that no framework has by this name.
OWN = """

def loss(outputs, targets):
    mean, log_variance = outputs[:, 0], outputs[:, 1]
    return MEAN(log_variance + (targets - mean) ** 2 * EXP(-log_variance))
"""


def own_in(package: str) -> str:
    """Its text for a side's file that has imported the package."""
    return OWN.replace("MEAN", f"{package}.mean").replace("EXP", f"{package}.exp")


def own(outputs, targets):
    mean, log_variance = outputs[:, 0], outputs[:, 1]
    return (log_variance + (targets - mean) ** 2 * np.exp(-log_variance)).mean()


LOSSES = {
    "cross-entropy": (Targets((), classes=2), cross_entropy),
    "squared-error": (Targets((2,)), lambda outputs, targets: np.square(outputs - targets).mean()),
    "own": (Targets(()), own),
    "binary-cross-entropy": (
        Targets((2,), classes=2),
        lambda outputs, targets: (np.log1p(np.exp(-abs(outputs))) + np.maximum(outputs, 0) - outputs * targets).mean(),
    ),
}
