"""Example sweep files that ship with the package."""
