"""Generators of malformed dataset rows and media files, by kind."""
