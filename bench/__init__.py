"""Measurements: one script per question, each figure a ratio against a reference in the same run."""
