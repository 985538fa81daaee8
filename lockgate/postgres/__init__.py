"""An embedded PostgreSQL server: its programs, its data directory, its user and its process."""
