"""The promise under faults: processes, networks, servers and disks that fail while tasks run."""
