"""Kubernetes: read, server-side apply, events. Nothing is decided here."""
