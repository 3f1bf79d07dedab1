"""The client runtime: connections, informers, work queue, leader election, events, and objects in files."""
