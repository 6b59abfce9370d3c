"""VectorIndex: one HNSW index, held by every pod of a set."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from vectorindex.api.common import (
    AGE,
    INDEX_NAME_PATTERN,
    MAX_INDEX_NAME,
    MAX_PODS,
    ApiObject,
    Column,
    Kind,
    Parameters,
    ParametersInForce,
    Scale,
    Status,
    condition_path,
)
from vectorindex.api.labels import Labels, PodSelector
from vectorindex.api.model import (
    LIST_ATOMIC,
    LIST_MAP_BY_NAME,
    ApiModel,
    Count,
    Identifier,
    Opaque,
    PodMessage,
    PodName,
    Quantity,
    Rule,
    unchanged,
)
from vectorindex.api.names import INDEX_LABEL, OWN_LABELS, PORT
from vectorindex.api.reasons import ConditionType


class Metric(StrEnum):
    COSINE = "Cosine"
    L2 = "L2"
    INNER_PRODUCT = "InnerProduct"


class ReclaimPolicy(StrEnum):
    RETAIN = "Retain"
    DELETE = "Delete"


Annotations = Annotated[dict[str, Annotated[str, Field(max_length=16_384)]], Field(max_length=64)]
ResourceList = Annotated[dict[str, Quantity], Field(max_length=16)]


class Resources(ApiModel):
    """CPU and memory of a container."""

    requests: ResourceList | None = Field(
        default=None, description="What the scheduler reserves for each pod, for example cpu and memory."
    )
    limits: ResourceList | None = Field(
        default=None,
        description="What each pod may use at most. A rebuild holds two graphs in memory: give it twice the index.",
    )

    rules: ClassVar = (
        *(
            Rule(
                f"!has(self.{field}) || self.{field}.all(k, isQuantity(string(self.{field}[k])) && "
                f"quantity(string(self.{field}[k])).compareTo(quantity('0')) >= 0)",
                f"{field} must be quantities that are not negative, for example 500m or 2Gi",
                field=f".{field}",
            )
            for field in ("requests", "limits")
        ),
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
            "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
            "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "a request cannot be above its limit",
            field=".requests",
        ),
    )


class Storage(ApiModel):
    """The volume of each pod."""

    size: Quantity = Field(
        description="Size of each pod's volume; cannot be changed. A rebuild holds two graphs: give it three times "
        "the index."
    )
    storage_class_name: str | None = Field(
        default=None,
        description="StorageClass of the volumes; unset is the cluster's default one. Cannot be changed.",
        min_length=1,
        max_length=253,
    )
    reclaim: ReclaimPolicy = Field(
        default=ReclaimPolicy.RETAIN,
        description="What happens to the volumes when the VectorIndex is deleted: Retain keeps them, and an index that "
        "is created again under the same name takes them back. Scaling down always removes the volumes of the pods "
        "that go.",
    )

    rules: ClassVar = (
        Rule(
            "isQuantity(string(self.size)) && quantity(string(self.size)).compareTo(quantity('0')) > 0",
            "size must be a quantity above zero, for example 10Gi",
            field=".size",
        ),
    )


class SecretReference(ApiModel):
    """Names a Secret in the same namespace."""

    name: str = Field(description="Name of the Secret, in the same namespace.", min_length=1, max_length=253)


class Managed(ApiModel):
    """The pods that the operator runs for the index."""

    replicas: int = Field(default=1, description="Number of pods; each holds the whole index.", ge=1, le=MAX_PODS)
    image: str | None = Field(
        default=None,
        description="Image of the sidecar; unset is the one that the operator was installed with.",
        min_length=1,
        max_length=1_024,
        pattern=r"^\S+$",
    )
    image_pull_secrets: tuple[SecretReference, ...] = Field(
        default=(),
        description="Secrets with which the image is pulled.",
        max_length=16,
        json_schema_extra=LIST_MAP_BY_NAME,
    )
    resources: Resources | None = Field(default=None, description="CPU and memory of each pod.")
    storage: Storage = Field(description="The volume of each pod.")
    node_selector: Labels | None = Field(default=None, description="Labels that a node must have to take the pods.")
    tolerations: tuple[Opaque, ...] = Field(
        default=(),
        description="Taints of nodes that the pods put up with.",
        max_length=64,
        json_schema_extra=LIST_ATOMIC,
    )
    affinity: Opaque | None = Field(
        default=None, description="Which nodes the pods prefer or need, and which other pods beside them or elsewhere."
    )
    topology_spread_constraints: tuple[Opaque, ...] = Field(
        default=(),
        description="How the pods are spread over zones or nodes. A labelSelector is needed, for example "
        f"matchLabels with {INDEX_LABEL} and the name of the VectorIndex.",
        max_length=16,
        json_schema_extra=LIST_ATOMIC,
    )
    priority_class_name: str | None = Field(
        default=None, description="PriorityClass of the pods.", min_length=1, max_length=253
    )
    pod_labels: Labels | None = Field(
        default=None, description="Labels that the pods have beside those of the operator."
    )
    pod_annotations: Annotations | None = Field(default=None, description="Annotations of the pods.")

    rules: ClassVar = (
        Rule(
            f"!has(self.podLabels) || self.podLabels.all(k, !(k in {list(OWN_LABELS)}))",
            f"{', '.join(OWN_LABELS)} are the operator's own labels: choose others",
            field=".podLabels",
        ),
    )


class Maintenance(ApiModel):
    """When the index is said to need maintenance, and how it is carried out."""

    deleted_percent: int = Field(
        default=20,
        description="Maintenance is needed when so many percent of the items in the graph are deleted ones.",
        ge=1,
        le=100,
    )
    delta_percent: int = Field(
        default=10,
        description="A rebuild is needed when so many percent of the items lie outside the main graph.",
        ge=1,
        le=100,
    )
    min_items: int = Field(
        default=1_000,
        description="Fewer deleted or added items than this never ask for maintenance.",
        ge=0,
        le=1_000_000_000,
    )
    max_concurrent_pods: int = Field(
        default=1,
        description="So many pods rebuild or optimize at the same time; the next one begins when all pods are ready.",
        ge=1,
        le=MAX_PODS,
    )
    threads: int | None = Field(
        default=None,
        description="Threads that build a graph; unset is the CPU limit less one, at least 1.",
        ge=1,
        le=256,
    )


EITHER = "give exactly one of managed and podSelector"
PORT_ALONE = f"port is that of your own pods (podSelector): pods of the operator listen on {PORT}"


class VectorIndexSpec(ApiModel):
    dimensions: int = Field(description="Length of the vectors; cannot be changed.", ge=1, le=65_536)
    metric: Metric = Field(
        description="How vectors are compared: Cosine, L2 (squared Euclidean distance) or InnerProduct; "
        "cannot be changed."
    )
    hnsw: Parameters | None = Field(
        default=None,
        description="Parameters of the graph. What is unset stays as it is; what is in force stands in "
        "status.parameters. efSearch applies at once, the others at the next rebuild.",
    )
    managed: Managed | None = Field(
        default=None,
        description="The pods that the operator runs for the index. Give either this or podSelector; an index cannot "
        "change from one to the other.",
    )
    pod_selector: PodSelector | None = Field(
        default=None,
        description="The pods are your own, in the same namespace: each has the sidecar beside your application, and "
        "mounts the ConfigMap that the operator writes, named after the index with '-identity' behind it.",
    )
    port: int | None = Field(
        default=None,
        description=f"Port of the sidecar in the pods of podSelector; unset is {PORT}.",
        ge=1,
        le=65_535,
    )
    maintenance: Maintenance = Field(
        default=Maintenance(), description="When the index is said to need maintenance, and how it is carried out."
    )
    suspend: bool = Field(
        default=False,
        description="No rebuild or optimize starts while true; what has started goes on, and so do deletes.",
    )

    rules: ClassVar = (
        Rule("has(self.managed) != has(self.podSelector)", EITHER),
        Rule("!has(self.port) || has(self.podSelector)", PORT_ALONE, field=".port"),
        Rule(
            "has(self.managed) == has(oldSelf.managed)",
            "an index cannot change between managed and podSelector: create a VectorIndex with another name",
            forbidden=True,
        ),
        *(
            Rule(
                f"!has(self.managed) || !has(oldSelf.managed) || ({rule})" if path.startswith("managed.") else rule,
                f"{path} cannot be changed: create a VectorIndex with another name",
                field=f".{path}",
                forbidden=True,
            )
            for path, optional in (
                ("dimensions", False),
                ("metric", False),
                ("managed.storage.size", False),
                ("managed.storage.storageClassName", True),
            )
            for rule in [unchanged(path, optional=optional)]
        ),
    )

    @model_validator(mode="after")
    def _either(self) -> Self:
        """So that whoever finds no ``managed`` can rely on ``pod_selector``."""
        if (self.managed is None) == (self.pod_selector is None):
            raise ValueError(EITHER)
        return self


class Estimate(ApiModel):
    """What a run would take on a pod, to two digits."""

    seconds: Count = Field(description="Seconds until the new graph serves.")
    memory_bytes: Count = Field(description="Memory at the peak, beside what the pod uses.")
    disk_bytes: Count = Field(description="Free space on the volume, for new files beside those that serve.")
    measured: bool = Field(
        description="The seconds are by the pod's last run of this kind; false: by a model of a common machine."
    )


class PodStatus(ApiModel):
    """One pod's own figures, as it last answered."""

    name: PodName = Field(description="Name of the pod.")
    ready: bool = Field(description="The pod is ready, and it answers as this index.")
    message: PodMessage | None = Field(default=None, description="Why the pod is not ready.")
    vectors: Count | None = Field(default=None, description="Items that a search can find.")
    deleted_vectors: Count | None = Field(default=None, description="Deleted items that are still in the graph.")
    delta_vectors: Count | None = Field(default=None, description="Items outside the main graph.")
    bytes: Count | None = Field(default=None, description="Size of the index's files.")
    needs_rebuild: bool | None = Field(
        default=None, description="The pod's index would gain from an optimize or a rebuild."
    )
    rebuild_estimate: Estimate | None = Field(default=None, description="What an IndexRebuild would take on the pod.")
    optimize_estimate: Estimate | None = Field(default=None, description="What an IndexOptimize would take on the pod.")
    parameters: ParametersInForce | None = Field(default=None, description="HNSW parameters in force.")
    sequence: Count | None = Field(default=None, description="Grows with every write that the pod acknowledged.")
    digest: Identifier | None = Field(
        default=None, description="Of the items as of that sequence: the same on pods that hold the same items."
    )
    volume_id: Identifier | None = Field(default=None, description="Names the pod's volume.")
    boot_id: Identifier | None = Field(default=None, description="Names the process that answered.")


class VectorIndexStatus(Status):
    replicas: Count | None = Field(
        default=None,
        description="Pods that exist; other than spec.managed.replicas while pods are added or removed. With "
        "podSelector the pods that match, less those that are being removed.",
    )
    selector: str | None = Field(
        default=None,
        description="Label selector of the pods, for tools that scale; unset with podSelector, where nothing is "
        "scaled by the VectorIndex.",
        max_length=128,
    )
    ready_replicas: Count | None = Field(default=None, description="Pods that are ready and hold this index.")
    parameters: ParametersInForce | None = Field(
        default=None, description="HNSW parameters in force; unset while the pods differ."
    )
    vectors: Count | None = Field(default=None, description="Items that a search can find: the most that any pod has.")
    deleted_vectors: Count | None = Field(
        default=None, description="Deleted items that are still in the graph: the most that any pod has."
    )
    delta_vectors: Count | None = Field(
        default=None, description="Items outside the main graph: the most that any pod has."
    )
    bytes: Count | None = Field(default=None, description="Size of the index's files on all pods together.")
    pods: tuple[PodStatus, ...] = Field(
        default=(), description="Each pod's own figures.", max_length=MAX_PODS, json_schema_extra=LIST_MAP_BY_NAME
    )


class VectorIndex(ApiObject):
    """One HNSW index, held by every pod of a set: pods that the operator runs, or your own."""

    definition: ClassVar = Kind(
        kind="VectorIndex",
        plural="vectorindexes",
        singular="vectorindex",
        short_name="vi",
        scale=Scale(wanted=".spec.managed.replicas", there=".status.replicas", selector=".status.selector"),
        columns=(
            Column("Ready", condition_path(ConditionType.READY, "status"), "Every pod is ready and holds the index."),
            Column("Pods", ".status.readyReplicas", "Pods that are ready.", "integer"),
            Column("Vectors", ".status.vectors", "Items that a search can find.", "integer"),
            Column("Deleted", ".status.deletedVectors", "Deleted items that are still in the graph.", "integer"),
            Column(
                "Maintenance",
                condition_path(ConditionType.MAINTENANCE_NEEDED, "reason"),
                "Why the index needs maintenance, or NotNeeded.",
            ),
            AGE,
            Column("Dimensions", ".spec.dimensions", "Length of the vectors.", "integer", wide=True),
            Column("Metric", ".spec.metric", "How vectors are compared.", wide=True),
            Column("Message", condition_path(ConditionType.READY, "message"), "The state, for people.", wide=True),
        ),
    )

    rules: ClassVar = (
        Rule(
            f"self.metadata.name.size() <= {MAX_INDEX_NAME} && self.metadata.name.matches('{INDEX_NAME_PATTERN}')",
            f"the name of a VectorIndex must be a DNS-1035 label of at most {MAX_INDEX_NAME} characters: lower-case "
            "letters, digits and '-', a letter first, no '-' last",
        ),
        Rule(
            "!self.metadata.name.endsWith('-pods')",
            "the name of a VectorIndex must not end in '-pods': Services of the operator do",
        ),
    )

    spec: VectorIndexSpec = Field(description="The index that is wanted.")
    status: VectorIndexStatus = Field(default=VectorIndexStatus(), description="The index as the operator last saw it.")
