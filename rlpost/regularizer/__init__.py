"""Regularizers: terms beside the objective, each with its own coefficient and aggregation."""
