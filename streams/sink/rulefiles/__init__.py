"""Rule files: alerts and recordings for a Prometheus, made from our own rules and the catalogue."""
