"""Shaping: reward columns in, reward columns out."""
