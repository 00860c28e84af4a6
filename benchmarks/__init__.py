"""Performance of the package, as ratios taken within one run."""
