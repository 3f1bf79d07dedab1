"""Sockets, caches and routes: the only I/O beside the certificates'."""
