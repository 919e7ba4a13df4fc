"""Fleets: the workers of all nodes of a store: each node tells of its own, and knows those of the others."""
