"""Dashboards: what people look at in Grafana, made from the catalogue."""
