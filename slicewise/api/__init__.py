"""What users write: labels, policies, plans and their schemas."""
