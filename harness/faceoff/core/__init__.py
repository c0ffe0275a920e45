"""What the parent and the workers share: words, sizes, weights and messages.

Only the standard library and NumPy, in Python 3.6 syntax, because a worker may run in another interpreter.
"""
