"""A catalogue of faults as data, and what plants them in copies of the sources and asks the agreement check about them.

The worker entry lives here too and runs beside one framework, so this package imports nothing on its own.
"""
