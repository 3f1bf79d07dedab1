"""The objects of Kueue: as a plan makes them, and merged into what stands.  Pure."""
