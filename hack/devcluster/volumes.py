"""The cluster's local volumes: a fixed number, each used again after its claim is gone.

Invariant: a volume that is Available is empty. Kubernetes has nobody who cleans a local volume after its release;
here a thread empties the folder and makes the object anew.
"""

import http.client
import logging
import shutil
import threading
from pathlib import Path

from devcluster import objects
from devcluster.api import Api, ApiError

log = logging.getLogger(__name__)

COUNT = 32
POLL_SECONDS = 1.0
_COLLECTION = "/api/v1/persistentvolumes"


class Volumes:
    """The volumes below one folder."""

    def __init__(self, api: Api, folder: Path, count: int = COUNT) -> None:
        self._api = api
        self._folders = {f"local-{number:02}": folder / f"local-{number:02}" for number in range(1, count + 1)}

    def start(self) -> None:
        """Make all volumes, and use them again in the background from now on."""
        for name in self._folders:
            self._make(name)
        threading.Thread(target=self._run, name="volumes", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(POLL_SECONDS):
            try:
                self._recycle()
            except (ApiError, OSError, http.client.HTTPException) as error:
                log.warning("volumes: %s", error)

    def _recycle(self) -> None:
        present = set()
        for volume in self._api.get(_COLLECTION)["items"]:
            name = volume["metadata"]["name"]
            present.add(name)
            if name in self._folders and volume["status"].get("phase") == "Released":
                self._api.delete(f"{_COLLECTION}/{name}")
        for name in self._folders.keys() - present:
            self._make(name)

    def _make(self, name: str) -> None:
        folder = self._folders[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.iterdir():  # of a folder that could not go, since a test mounted something there
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        folder.chmod(0o755)
        self._api.create(_COLLECTION, objects.volume(name, folder))
