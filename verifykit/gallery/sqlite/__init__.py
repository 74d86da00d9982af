"""Galleries in one SQLite file."""
