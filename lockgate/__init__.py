"""Lockgate: a task queue on Postgres that never executes more than N tasks at once."""
