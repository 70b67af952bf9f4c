"""`python -m rlpost`, which launchers of several processes call."""

from rlpost.cli import main

if __name__ == "__main__":
    main()
