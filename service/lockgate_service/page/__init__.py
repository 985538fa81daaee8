"""The live page: what is going on, and what can be done about it."""
