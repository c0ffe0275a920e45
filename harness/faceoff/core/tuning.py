"""The mode `tuned` of a framework, and `tuned-without-NAME`: the same with one of its settings left as it was."""

TUNED = "tuned"
_WITHOUT = TUNED + "-without-"
# Settings that are code of the implementations; all others are environment variables (`impls/*/framework.toml`).
BACKWARD, ONE_TANH = "backward-by-hand", "one-tanh"


def without(setting: str) -> str:
    """The mode that leaves a setting out."""
    return _WITHOUT + setting


def left_out(mode: str) -> str:
    """The setting that a mode leaves out; empty when it leaves out none."""
    return mode[len(_WITHOUT) :] if mode.startswith(_WITHOUT) else ""


def is_tuned(mode: str) -> bool:
    """Whether this is the mode `tuned`, whole or without one of its settings."""
    return mode == TUNED or bool(left_out(mode))


def kind_of(mode: str) -> str:
    """`tuned` for all that are, else the mode itself."""
    return TUNED if is_tuned(mode) else mode


def does(mode: str, setting: str) -> bool:
    """Whether a setting is in force in a mode."""
    return is_tuned(mode) and left_out(mode) != setting
