"""The operator: receive, append, acknowledge; nothing is acknowledged that is not stored."""
