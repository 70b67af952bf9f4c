"""Keep rules: which rows stay in the step."""
