"""Other task queues on Postgres, measured as Lockgate is. Their code is installed from their registries, never kept."""
