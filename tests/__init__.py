"""The proof: see docs/testing.md for the layers. A package, so that ``tests.support`` has one unmistakable name."""
