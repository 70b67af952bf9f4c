"""Losses that train a reward model."""
