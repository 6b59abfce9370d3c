"""What all wire models share: immutable, tolerant when read, compact when written."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """A JSON object of the sidecar's API."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The object as it is sent: by its public names, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
