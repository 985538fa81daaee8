"""Counts and durations, for clients and for Prometheus."""
