"""The Grafana dashboards of Chroniker, built in Python. Grafana reads the JSON files."""
