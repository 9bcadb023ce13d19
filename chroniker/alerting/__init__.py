"""Incidents, notifications and the channels that deliver them.

From a failure to a message: ``incidents`` opens and resolves, ``notifications`` decides who gets
what, ``outbox`` stores it in the same transaction, ``sender`` is the process that empties the
outbox, ``delivery`` claims what is due, ``channels`` are the notifiers of the site, ``mail`` and
``webhook`` build and send one message.
"""
