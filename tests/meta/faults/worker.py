"""Entry of a worker that can change its implementation: `python -m tests.meta.faults.worker`, as `harness.worker`.

Importing a framework takes seconds, importing our own files about it milliseconds: so the framework stays, and only
`impls` is imported afresh for each fault.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import harness.worker.__main__
import harness.worker.server


class ReloadingServer(harness.worker.server.Server):
    """The shipped server with one request more."""

    _root = ""

    def do_reload(self, root: str, **settings: Any) -> dict[str, Any]:
        """Starts again with the implementation under the folder `root`; `settings` are those of `start`."""
        self._model, self._batches, self._last = None, [], None
        for name in [name for name in sys.modules if name.partition(".")[0] == "impls"]:
            del sys.modules[name]
        sys.path[:] = [root, *(path for path in sys.path if path != self._root)]
        self._root = root
        importlib.invalidate_caches()
        reply = self.do_start(**settings)
        # Were the copy not the one that runs, every check would judge the shipped files.
        loaded = sys.modules[f"impls.{self._framework}.runtime"].__file__
        return {**reply, "loaded": loaded}


if __name__ == "__main__":
    harness.worker.server.Server = ReloadingServer
    harness.worker.__main__.main()
