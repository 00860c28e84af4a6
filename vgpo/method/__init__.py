"""The paper's mathematics, Eq. 3-12, and its released variant. Needs torch alone."""
