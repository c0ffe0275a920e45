"""What of TensorFlow this process has: distributions and their versions, and the card."""

from __future__ import annotations

import importlib.metadata

import tensorflow as tf


def card_name() -> str | None:
    """What the card that is used is called; None without one."""
    cards = tf.config.get_visible_devices("GPU")
    return tf.config.experimental.get_device_details(cards[0]).get("device_name") if cards else None


def version_of(distribution: str) -> str | None:
    """Of a distribution; None if it is not here."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
