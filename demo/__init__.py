"""Demonstrations on real pictures, run by ``make demo``; no part of the installed package."""
