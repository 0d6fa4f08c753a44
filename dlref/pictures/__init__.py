"""What a training has learnt, in pictures: each function writes one PNG and returns its path."""
