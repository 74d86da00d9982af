"""Demonstrations, run by ``make demo``, and their data; not part of the installed package."""
