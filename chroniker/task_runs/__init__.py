"""Runs of tasks: the call in the job's process, and following what a backend executes."""
