"""What the programs have in common that speak to RabbitMQ."""
