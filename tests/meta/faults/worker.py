"""Entry of a worker that can change its implementation: `python -m tests.meta.faults.worker`, as `faceoff.worker`.

Importing a framework takes seconds, importing our own files about it milliseconds: so the framework stays, and only
the folder of the implementation is imported afresh for each fault.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import faceoff.worker.__main__
import faceoff.worker.server
from faceoff.worker.loading import PACKAGE


class ReloadingServer(faceoff.worker.server.Server):
    """The shipped server with one request more."""

    def do_reload(self, folder: str, **settings: Any) -> dict[str, Any]:
        """Starts again with the implementation in a folder; `settings` are those of `start`."""
        self._model, self._batches, self._last = None, [], None
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        self._folder = folder
        importlib.invalidate_caches()
        reply = self.do_start(**settings)
        # Were the copy not the one that runs, every check would judge the shipped files.
        loaded = sys.modules[f"{PACKAGE}.runtime"].__file__
        return {**reply, "loaded": loaded}


if __name__ == "__main__":
    faceoff.worker.server.Server = ReloadingServer
    faceoff.worker.__main__.main()
