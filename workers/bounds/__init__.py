"""Confidentiality bounds: pure functions in float64."""
