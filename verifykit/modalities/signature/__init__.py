"""Signatures: find the ink, crop, measure quality."""
