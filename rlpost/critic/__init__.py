"""A second network that learns what a completion will earn; without a pick there is none."""
