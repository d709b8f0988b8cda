"""The thin edge: Faust, Kafka, HTTP, Redis and the commands.  It decides nothing that a pure module could."""
