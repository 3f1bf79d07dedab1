"""One reconciler a module: which events mean which keys, and what is done about a key."""
