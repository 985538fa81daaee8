"""The publisher: how tasks end is told to a RabbitMQ exchange."""
