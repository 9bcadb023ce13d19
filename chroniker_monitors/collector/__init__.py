"""From the database to metric families.

``families`` is the table of all metrics and the only home of their names; ``rows`` reads the
database, ``numbers`` turns a row into numbers, ``prometheus`` offers both as a collector for
prometheus_client. Importing any of it touches neither settings nor models.
"""
