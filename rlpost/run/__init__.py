"""The run folder: what a run leaves behind, how it shows itself while it runs, and how it is continued."""
