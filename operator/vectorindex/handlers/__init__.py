"""kopf: an event becomes a key, nothing more."""
