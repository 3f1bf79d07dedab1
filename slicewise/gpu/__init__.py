"""Facts of vendors: strategies, MIG profiles, boards.  No Kubernetes."""
