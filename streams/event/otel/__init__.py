"""OpenTelemetry in, CallbackEvents out: spans, log records and metrics of every dialect in one canonical model."""
