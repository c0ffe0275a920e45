"""The atlas of defaults: what each framework does when nothing is said, found by running it.

    find_defaults(frameworks)    starts one unconfigured worker a framework, asks for probes, fits, compares: Atlas
    print_atlas(atlas)           the table on standard output
    load_atlas(path)             what `faceoff defaults --out` has written

`layers`, `steps` and `initialisation` measure, `fitting` and `optimisers` recover constants and forms, `effects` and
`units` tell what a difference is worth.
"""

from faceoff.defaults.atlas import Atlas, Effect, Finding, Row, load_atlas
from faceoff.defaults.run import find_defaults
from faceoff.defaults.table import print_atlas

__all__ = ["Atlas", "Effect", "Finding", "Row", "find_defaults", "load_atlas", "print_atlas"]
