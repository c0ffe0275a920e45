"""Which frameworks there are, where they are installed, in which versions, and how they are tuned."""
