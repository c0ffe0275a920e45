"""The Python file of a side of a user's own model: imported where it lies, and its functions `build` and `loss`.

Whatever fails in it is told in one line that names the file. The file's folder is importable for it alone.
"""

import contextlib
import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, Tuple

from faceoff.core.errors import HarnessError, InputError, UnsupportedError

# The reason begins with it where a package is missing.
NEEDS_MODULE = "needs the module"
LOSS_FORM = "def loss(outputs, targets): returns their mean loss"
_FILES: Dict[Tuple[str, str], ModuleType] = {}
_HELPERS: Dict[Tuple[str, str], Dict[str, ModuleType]] = {}


def load_build(file: str, variant: str) -> Callable[[], Any]:
    """The function `build` of a file, which is imported once for each variant.

    Args:
        file: its path.
        variant: what the constants of the file and of its helpers may depend on, as the dtype of new arrays.

    Returns:
        a function that calls it, and raises as this does.

    Raises:
        InputError: no such file, no such function, or something fails in it.
        UnsupportedError: it needs a module that is not here.
    """
    function = _function(file, variant, "build", "def build(): returns the model")

    def built() -> Any:
        with _importable(_folder(file), variant), _told(file, "`build()` failed"):
            return function()

    return built


def load_loss(file: str, variant: str) -> Callable[[Any, Any], Any]:
    """The function `loss` of a file, of outputs and targets; arguments and errors as of `load_build`."""
    return _function(file, variant, "loss", LOSS_FORM)


def has_loss(file: str, variant: str) -> bool:
    """Whether a file has a function `loss`; arguments and errors as of `load_build`."""
    with _importable(_folder(file), variant):
        return callable(getattr(_imported(file, variant), "loss", None))


def _function(file: str, variant: str, name: str, expected: str) -> Callable[..., Any]:
    with _importable(_folder(file), variant):
        found = getattr(_imported(file, variant), name, None)
    if not callable(found):
        raise InputError(f"no function `{name}`", where=file, expected=expected)
    function: Callable[..., Any] = found
    return function


def _folder(file: str) -> str:
    return str(Path(file).resolve().parent)


def _imported(file: str, variant: str) -> ModuleType:
    key = str(Path(file).resolve()), variant
    if key not in _FILES:
        name = f"own_{Path(file).stem}_{zlib.crc32(repr(key).encode()):08x}"
        spec = importlib.util.spec_from_file_location(name, key[0])
        if spec is None or spec.loader is None or not Path(file).is_file():
            raise InputError("no Python file", where=file)
        # Where dataclasses look for it.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            with _told(file, "cannot be imported"):
                spec.loader.exec_module(module)
        except HarnessError:
            del sys.modules[name]
            raise
        _FILES[key] = module
    return _FILES[key]


@contextlib.contextmanager
def _told(file: str, what: str) -> Iterator[None]:
    """Says in a line which file failed."""
    try:
        yield
    except HarnessError:
        raise
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"{NEEDS_MODULE} {error.name!r}, which is not here", where=file) from error
    except Exception as error:
        line = getattr(error, "lineno", None)
        text = " ".join(str(error).split()) or "no reason"
        reason = f"{type(error).__name__}: {text}" + (f" in line {line}" if line and "line" not in text else "")
        raise InputError(what, where=file, got=reason) from error


@contextlib.contextmanager
def _importable(folder: str, variant: str) -> Iterator[None]:
    """Lets the files of a folder import each other. Another folder may have other files of the same names."""
    helpers = _HELPERS.setdefault((folder, variant), {})
    before = set(sys.modules)
    hidden = {name: sys.modules[name] for name in helpers if name in sys.modules}
    sys.modules.update(helpers)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in [*helpers, *(set(sys.modules) - before)]:
            if name in helpers or _lies_in(folder, name, sys.modules[name]):
                helper = sys.modules.pop(name, None) or helpers[name]
                helpers[name] = helper
        sys.modules.update(hidden)


def _lies_in(folder: str, name: str, module: ModuleType) -> bool:
    # An environment may lie in the folder too, but not as a package of it.
    top = Path(folder, name.partition(".")[0])
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return any(place == f"{top}.py" or place.startswith(f"{top}/") or place == str(top) for place in places)
