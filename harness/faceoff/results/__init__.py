"""What a run has found, as records, and the file that keeps them."""
