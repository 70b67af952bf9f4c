"""Metrics over rollouts."""
