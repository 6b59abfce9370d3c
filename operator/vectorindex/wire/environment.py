"""Environment variables by which the operator tells a sidecar what it cannot read from its identity file."""

POD_NAME = "POD_NAME"
"""Name of the pod."""
MEMORY_LIMIT = "MEMORY_LIMIT_BYTES"
CPU_LIMIT = "CPU_LIMIT_MILLICORES"
"""Of the sidecar's container, by the downward API. Where the container has no limit, Kubernetes gives what its node can
give to all pods together: the most that it may use all the same."""
