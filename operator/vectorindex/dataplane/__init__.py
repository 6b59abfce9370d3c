"""The client of the sidecar: the operator's calls, and an application's."""
