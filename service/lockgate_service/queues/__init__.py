"""Queues, their slots and the runners that hold them."""
