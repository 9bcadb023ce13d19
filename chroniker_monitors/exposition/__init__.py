"""The page: metric families as text, fast, with everybody else's metrics beside them.

``render`` turns a snapshot into text and remembers what did not change, ``page`` puts the page
together, ``formats`` reads what a scraper accepts, ``response`` says who may have it.
"""
