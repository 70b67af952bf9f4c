"""Supervised losses per token."""
