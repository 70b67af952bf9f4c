"""Environments: what answers a policy that speaks more than once. `protocol` says what one is."""
