"""One Node object -> what it offers, and whether that can be trusted yet.  Pure."""
