"""Who signs, what is trusted, and how both change without a failed call."""
