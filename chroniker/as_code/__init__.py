"""Jobs as code: a file or declarations in Python, compared with the database and applied to it."""
