"""Searches for the input shifts that probe a bound."""
