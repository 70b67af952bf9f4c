"""Advantage estimators: reward columns in, credit per row or per token out."""
