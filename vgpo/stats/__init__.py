"""Intervals, seeds and forgetting ratios: numbers about numbers."""
