"""One module per surface; each only parses, calls, and shapes the answer."""
