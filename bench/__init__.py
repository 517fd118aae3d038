"""Benchmarks: what is fast, what is not, with the method beside the figure (README.md)."""
