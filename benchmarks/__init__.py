"""Measurements against peers and limits, each a command."""
