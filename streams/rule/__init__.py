"""Tables into verdicts: thresholds, the life of an alert, circuit breakers.  Pure: a reading and `now_ms` come in."""
