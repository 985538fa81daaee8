"""The commands of `lockgate` that ask a database: each submits, changes or shows something, and ends."""
