"""AgentStreams: exactly-once tables, alerts, breakers and metrics from the events of LLM agents on Kafka."""

__version__ = "0.1.0"
