"""A real control plane on loopback, and the end-to-end tests that run against it."""
