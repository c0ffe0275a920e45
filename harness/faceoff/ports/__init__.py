"""A user's own model: what its manifest says, and which weight of one side is which of another.

`manifest` reads `port.toml` without importing anything, `opening` asks each side's worker what it holds, and `mapping`
gives every weight a canonical name and finds where each side keeps it: by rules of the user's, then by names, shapes
and order (`entries`, `names`, `matching`). What could be meant in two ways is asked for, never assumed.
"""
