"""The runner: takes tasks out of the queue and has them executed."""
