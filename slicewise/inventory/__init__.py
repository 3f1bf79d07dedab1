"""What nodes offer: one node, the pools that many make, and what a request gets of them.  Pure."""
