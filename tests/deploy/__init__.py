"""The two commands of a fresh checkout, and the unit file."""
