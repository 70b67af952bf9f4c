"""Curricula: which task comes next."""
