"""One object and what was decided -> the object as it should be, and the patch that makes it so.  Pure."""
