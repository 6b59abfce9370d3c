"""The kinds of the Kubernetes API as pydantic models: the one source of the CRDs.

Nothing here does I/O and nothing here imports the rest of the project.
"""

from vectorindex.api import names
from vectorindex.api.common import ApiObject
from vectorindex.api.indexdelete import IndexDelete
from vectorindex.api.indexoptimize import IndexOptimize
from vectorindex.api.indexrebuild import IndexRebuild
from vectorindex.api.vectorindex import VectorIndex

KINDS: tuple[type[ApiObject], ...] = (VectorIndex, IndexDelete, IndexRebuild, IndexOptimize)
"""Every kind that the operator serves."""

__all__ = ["KINDS", "ApiObject", "IndexDelete", "IndexOptimize", "IndexRebuild", "VectorIndex", "names"]
