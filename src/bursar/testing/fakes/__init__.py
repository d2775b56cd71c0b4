"""Stand-ins for outside services that cannot be run here; each one says whose rules stand behind it."""
