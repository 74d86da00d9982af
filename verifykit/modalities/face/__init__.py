"""Faces: detect, crop, measure quality."""
