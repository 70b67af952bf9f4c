"""The reward workbench: reward stacks on texts whose worth is known, or on the completions of an earlier run."""
