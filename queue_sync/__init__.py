"""The controller: keeps Kueue and Volcano quotas equal to what nodes really offer."""
