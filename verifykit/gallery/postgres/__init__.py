"""Galleries in a PostgreSQL database."""
