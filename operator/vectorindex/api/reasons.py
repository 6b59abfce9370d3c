"""The closed list of condition types and reasons: what is not here, the operator does not report.

A reason is added together with the code that emits it, never before.
"""

from __future__ import annotations

from vectorindex.api.documented import DocumentedEnum


class ConditionType(DocumentedEnum):
    """What a condition is about."""

    READY = "Ready", "The object is in the state that its spec asks for."
    RECONCILING = "Reconciling", "The operator is at work on the object, or waits for something that comes by itself."
    STALLED = "Stalled", "Nothing goes on until somebody acts; the message says how."
    MAINTENANCE_NEEDED = (
        "MaintenanceNeeded",
        "The index would gain from an optimize or a rebuild; the message says which, and gives the figures.",
    )
    REPLICAS_CONSISTENT = (
        "ReplicasConsistent",
        "Every pod holds the same items, by their digests; False when two looks, a minute apart, show that they differ "
        "while nothing is written.",
    )
    SUCCEEDED = "Succeeded", "How the run ended; Unknown until then."


class Reason(DocumentedEnum):
    """Why a condition has its status."""

    # VectorIndex
    ALL_PODS_READY = "AllPodsReady", "Every pod is ready and holds this index."
    PODS_NOT_READY = (
        "PodsNotReady",
        "At least one pod is missing, not ready, or does not answer, or there is none at all; the message names it.",
    )
    PROGRESSING = "Progressing", "The objects of the index are being created or scaled, and its pods are starting."
    ROLLOUT_IN_PROGRESS = "RolloutInProgress", "A new pod template is being rolled out, one pod after the other."
    ROLLOUT_PENDING = (
        "RolloutPending",
        "A new pod template waits until the rebuild or optimize that is at work is done; one that comes with another "
        "version of the operator also waits for its turn, as one index at a time is upgraded; see the message.",
    )
    AWAITING_ITEMS = (
        "AwaitingItems",
        "A pod on a new volume is held not ready until it holds the items that the others hold, which the application "
        "writes to it; the message names it.",
    )
    UP_TO_DATE = "UpToDate", "The objects of the index are as its spec asks for; nothing is under way."
    NOT_STALLED = "NotStalled", "Nothing that somebody would have to repair stands in the way."
    IDENTITY_MISMATCH = (
        "IdentityMismatch",
        "A pod answers as another index, or as something else than a sidecar.",
    )
    NAME_CONFLICT = "NameConflict", "An object of a name that the index needs exists already and is not ours."
    INVALID_SPEC = (
        "InvalidSpec",
        "The API server refused an object that the spec asks for, or a field is not valid; the message says which.",
    )
    DELETED_RATIO = "DeletedRatio", "Too many deleted items are still in the graph (maintenance.deletedPercent)."
    DELTA_RATIO = "DeltaRatio", "Too many items lie outside the main graph (maintenance.deltaPercent)."
    PARAMETERS_CHANGED = "ParametersChanged", "spec.hnsw asks for an m or efConstruction that is not in force."
    NOT_NEEDED = "NotNeeded", "No pod needs an optimize or a rebuild."
    REPLICAS_AGREE = "ReplicasAgree", "Every pod holds the same items."
    REPLICAS_DIFFER = (
        "ReplicasDiffer",
        "The pods hold different items, and nothing is being written; the message names them with their counts.",
    )
    WRITES_IN_PROGRESS = "WritesInProgress", "Items are being written, so that the pods cannot be compared."

    # Runs that have not ended
    QUEUED = "Queued", "The run waits for its turn: rebuilds and optimizes of one index run one after the other."
    SUSPENDED = "Suspended", "The rebuild or optimize waits until spec.suspend of the VectorIndex is false."
    RUNNING = "Running", "At least one pod is at work."
    RETRYING = "Retrying", "A pod failed, and tries again (backoffLimit); the message says when."
    STOPPING = (
        "Stopping",
        "The run is about to end, the message says why; what is at work on pods is being cancelled.",
    )
    PODS_UNREACHABLE = "PodsUnreachable", "The run waits for pods that do not answer; the message names them."
    KEY_PENDING = (
        "KeyPending",
        "The run waits for pods that do not accept the operator's key yet; the message names them, and after 3 minutes "
        "what to do.",
    )
    INDEX_NOT_READY = "IndexNotReady", "The rebuild or optimize waits until the VectorIndex is Ready."
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound", "The run waits for the ConfigMap, or the key in it, with its IDs."

    # Runs that wait for their index, then fail
    INDEX_NOT_FOUND = "IndexNotFound", "There is no VectorIndex of that name; the run waits for a minute, then fails."

    # Runs that have ended
    COMPLETED = "Completed", "Every pod has done its part."
    ALREADY_APPLIED = (
        "AlreadyApplied",
        "Every pod has done a run of the same operationID before; nothing was changed, and the figures are that run's.",
    )
    OPERATION_ID_CONFLICT = (
        "OperationIDConflict",
        "A pod has done a run of the same operationID that was of another kind, or asked for something else.",
    )
    CANCELLED = (
        "Cancelled",
        "spec.cancel was set, the object is being deleted, or somebody cancelled the operation on a pod; the message "
        "says which. Pods that had done their part by then keep it.",
    )
    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        "The run was not done within activeDeadlineSeconds. Pods that had done their part by then keep it.",
    )
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded", "A pod failed again and again, more often than backoffLimit."
    DRY_RUN = "DryRun", "Every pod has said what the delete would do (dryRun); nothing was deleted."
    DELETE_LIMIT_EXCEEDED = (
        "DeleteLimitExceeded",
        "More than maxDeletePercent of a pod's items would go. The message names the pods that had deleted by then.",
    )
    INDEX_DELETED = "IndexDeleted", "The VectorIndex was deleted, or deleted and created again, while the run waited."
    INVALID_REQUEST = "InvalidRequest", "The request cannot be carried out as it is; the message says what to change."
    PODS_GONE = (
        "PodsGone",
        "Every pod that the rebuild or optimize began with was removed for good before it had done its part.",
    )
    REQUEST_CHANGED = "RequestChanged", "The ConfigMap with the IDs changed before every pod had accepted the request."
    RECALL_REGRESSED = "RecallRegressed", "The new graph would have answered worse; the old one goes on serving."
    INSUFFICIENT_MEMORY = (
        "InsufficientMemory",
        "A pod has too little memory for the new graph; the message says how much is needed. The old one goes on "
        "serving.",
    )
    INSUFFICIENT_STORAGE = (
        "InsufficientStorage",
        "A pod's volume has too little space for the new files; the message says how much is needed. The old graph "
        "goes on serving.",
    )
    INDEX_CORRUPT = "IndexCorrupt", "The files of a pod's index are damaged."
    BUILD_FAILED = "BuildFailed", "A pod could not build the new graph; the old one goes on serving."
    RESTART_LIMIT_EXCEEDED = "RestartLimitExceeded", "A sidecar was restarted too often without getting further."
    OPERATION_FAILED = (
        "OperationFailed",
        "A pod refused or failed the operation for another reason; see the message.",
    )
