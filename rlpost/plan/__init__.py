"""`rlpost plan`: what a run would be and need, said before any weight is loaded.

Everything here reads what the run itself uses (its checks, options, encoder, rewards); nothing is decided again.
"""
