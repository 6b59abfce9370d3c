"""A real Kubernetes for tests and the demo, built from Go modules, without Docker.

Nothing here touches the machine's network, and nothing that is started outlives the process that owns it, unless
`python -m devcluster up` was asked to leave a cluster running.
"""
