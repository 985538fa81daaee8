"""Executors: the child processes in which handlers run, and everything that keeps or ends them."""
