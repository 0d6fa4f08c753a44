"""One training step as one graph, compiled or played back; which products the CPU computes fastest."""
