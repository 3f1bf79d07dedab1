"""What the end-to-end tests stand on: programs, clusters, players and clients, one purpose a file. No test is here."""
