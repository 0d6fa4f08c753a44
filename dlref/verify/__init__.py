"""What proves that the two sides agree."""
