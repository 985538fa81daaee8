"""The intake: messages of a RabbitMQ queue become tasks."""
