"""The controller's numbers for Prometheus."""
