"""A bookshop: a small real Django site whose jobs do real work on real rows."""
