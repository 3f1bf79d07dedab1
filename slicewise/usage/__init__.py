"""What GPUs were used for: Prometheus and files in, reports and right sizes out."""
