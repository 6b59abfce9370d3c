"""A container image of a few static files, as an OCI archive, written without any tool.

The same files give the same archive, byte for byte.
"""

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(archive: Path, tag: str, files: Mapping[str, Path], entrypoint: Sequence[str]) -> None:
    """Write an image.

    Args:
        archive: the file to write.
        tag: full name of the image.
        files: what the image holds: path inside it → file.
        entrypoint: command of the image, run as user 65535.
    """
    layer = _tar({name: (path.read_bytes(), 0o755) for name, path in files.items()})
    packed = gzip.compress(layer, mtime=0)
    config = _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar+gzip", packed)],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag}
    index = _json({"schemaVersion": 2, "manifests": [entry | {"annotations": names}]})
    content = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    for blob in (config, manifest, packed):
        content[f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}"] = blob
    archive.write_bytes(_tar({name: (data, 0o644) for name, data in content.items()}))


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
