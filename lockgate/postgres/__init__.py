"""An embedded PostgreSQL server: its programs, its data directory, its account and its process."""
