"""Full-vocabulary divergences between a frozen model and the policy."""
