"""What becomes of one object: a value in, a value out, no network and no clock."""
