"""Reviews that nobody would send: made from real ones by many small damages, and what must hold for every one."""
