"""Tasks: submit, read, list, change, wait."""
