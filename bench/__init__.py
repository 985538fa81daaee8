"""Measurements: one script a question, each figure a ratio to a reference in the same run."""
