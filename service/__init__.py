"""The service: the HTTP side of the queue."""
