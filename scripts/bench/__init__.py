"""What rlpost is measured by: each goal of docs/performance.md beside what it is held against, in one process."""
