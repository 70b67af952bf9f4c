"""Aggregations as token weights: every denominator of a step lives here."""
