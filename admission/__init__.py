"""The mutating webhook: rewrites GPU requests into the name that the right pool advertises."""
