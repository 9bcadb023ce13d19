"""The processes of a run: supervisor, fork server, warden, and the job itself."""
