"""Fields beside a request that hang on its name or count, and what mends them.  Pure."""
