"""Builds: how the completions of one stage become the data of the next."""
