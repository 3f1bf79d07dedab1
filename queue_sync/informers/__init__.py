"""What the controller watches: kinds that quota needs, and kinds that only advise."""
