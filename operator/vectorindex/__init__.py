"""VectorIndex: the maintenance of HNSW vector indexes that live in Kubernetes pods."""
