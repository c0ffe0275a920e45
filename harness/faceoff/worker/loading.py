"""A framework's folder becomes a package, wherever it lies and whatever it is called.

A worker holds one framework, so one name serves all: files of a folder import each other by relative imports, and no
name of anybody's own code is taken.
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from faceoff.core.errors import InputError

PACKAGE = "faceoff_framework"


def load_framework(folder: str) -> ModuleType:
    """The package of a framework's folder; imported the first time that it is asked for.

    Raises:
        InputError: the folder has no `__init__.py`.
    """
    if PACKAGE not in sys.modules:
        path = os.path.join(folder, "__init__.py")
        if not os.path.isfile(path):
            raise InputError("a framework's folder needs an __init__.py", where=folder, next_step="write one")
        spec = importlib.util.spec_from_file_location(PACKAGE, path, submodule_search_locations=[folder])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[PACKAGE]
            raise
    return sys.modules[PACKAGE]


def load_part(folder: str, name: str) -> ModuleType:
    """One module of a framework's folder."""
    load_framework(folder)
    return importlib.import_module(f"{PACKAGE}.{name}")
