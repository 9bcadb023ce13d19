"""Health and readiness of a process, for the probes of a platform and for monitoring."""
