"""The demo: a bookshop, a small Django site whose jobs work on real data."""
