"""Measures: named numbers of a point, one per file."""
