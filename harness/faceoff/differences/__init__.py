"""What changed between two results, and how surely."""
