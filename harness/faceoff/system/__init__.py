"""Files that are written whole, signals, streams, and texts from the shell."""
