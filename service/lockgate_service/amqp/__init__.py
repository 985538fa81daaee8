"""Tasks from RabbitMQ, and the ends of tasks to RabbitMQ: `lockgate intake` and `lockgate publish`."""
