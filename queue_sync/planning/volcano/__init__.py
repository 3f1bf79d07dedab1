"""The Queues of Volcano: what a plan wants of them, in which order it is written, and what slipped through.  Pure."""
