"""Read the database and build metric families.

``metrics`` is the table of all metrics and the only place where their names are defined. ``rows``
reads the database, ``numbers`` computes the values of the metrics from the rows, ``prometheus``
offers them as a collector for prometheus_client. Importing these modules loads neither settings
nor models.
"""
