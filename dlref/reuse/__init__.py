"""The manual side in programs that were written for torch."""
