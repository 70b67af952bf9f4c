"""How the reference model follows the policy; without a pick it stays as it was at the start."""
