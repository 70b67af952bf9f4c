"""Which rows of earlier steps train again, with the credit and the log-probabilities that they had then."""
