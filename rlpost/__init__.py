"""rlpost: published post-training methods as small functions, composed by YAML recipes, trained by TRL."""

__version__ = "0.1.0"
