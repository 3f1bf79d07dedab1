"""Where every kind of workload keeps its pods: the table, its language, and the reader that it drives.  Pure."""
