"""A whole Lockgate on this machine: the service and its runners as supervised child processes, and the demo."""
