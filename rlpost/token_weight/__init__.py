"""Token weights without gradient, multiplied into the aggregation."""
