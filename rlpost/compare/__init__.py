"""`rlpost compare`: what differs between runs in their results, configuration, code and data; and what that proves."""
