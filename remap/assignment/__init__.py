"""Which weight belongs to which layer."""
