"""One run, from what was asked to its result: options, order of work, journal, going on after an end, progress."""
