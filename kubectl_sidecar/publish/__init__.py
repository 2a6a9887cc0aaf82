"""Put bytes into place in a shared volume, whole or not at all."""
