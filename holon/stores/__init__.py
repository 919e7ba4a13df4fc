"""Row stores: the port, and the store that a URI names."""
