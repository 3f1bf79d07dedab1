"""What people see of the controller: conditions, events, the status of plans and policies."""
