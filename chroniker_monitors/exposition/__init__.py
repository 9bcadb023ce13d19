"""The page ``/metrics``: Chroniker's metrics and those of other libraries.

``renderer`` turns a snapshot into text and caches what did not change, ``page`` puts the page
together, ``formats`` chooses the text format, ``response`` checks access and answers a request.
"""
