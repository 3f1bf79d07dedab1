"""Informers, the work queue, writes, numbers and events: the only I/O of the controller."""
