"""The side of a contender: what a worker process does with each request."""
