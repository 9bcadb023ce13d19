"""The processes of a run: supervisor, fork server, warden, child."""
