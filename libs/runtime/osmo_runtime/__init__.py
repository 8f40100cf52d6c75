"""What every program shares: configuration, logs, signals and exit codes. See `runner`."""
