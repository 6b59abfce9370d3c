"""The command lines of the control plane, the same for both tiers; only addresses, files and extras differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.certificates import Authority, Pair
from devcluster.kubeconfig import Kubeconfig

SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"

ADMIN = "devcluster-admin"


@dataclass(frozen=True)
class ControlPlaneFiles:
    """Every file and address that the programs of one control plane share."""

    bin: Path
    state: Path
    """The state directory; its layout is this class."""
    address: str
    """Where the API server and etcd listen."""
    etcd_port: int
    etcd_peer_port: int
    port: int
    """Of the API server."""

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.port}"

    @property
    def authority(self) -> Authority:
        """The CA, made on first use."""
        return Authority(self.state / "certificates")

    @property
    def kubeconfigs(self) -> Kubeconfig:
        """For writing kubeconfig files for this server."""
        return Kubeconfig(self.server, self.authority.pair.certificate)

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig of the administrator."""
        return self.state / "kubeconfig"

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self.state / "logs" / f"{name}.log"

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Issue a client certificate and write a kubeconfig with it."""
        pair = self.authority.issue(name, user, groups)
        return self.kubeconfigs.for_certificate(self.state / f"{name}.kubeconfig", user, pair)

    def write_admin_kubeconfig(self) -> Path:
        """Write the administrator's kubeconfig (group `system:masters`)."""
        pair = self.authority.issue("admin", ADMIN, ["system:masters"])
        return self.kubeconfigs.for_certificate(self.admin_kubeconfig, ADMIN, pair)


def etcd(files: ControlPlaneFiles) -> list[str | Path]:
    """Command line of etcd. It listens with TLS and serves holders of the CA's certificates alone."""
    pair = files.authority.issue("etcd", "etcd", hosts=[files.address])
    client, peer = (f"https://{files.address}:{port}" for port in (files.etcd_port, files.etcd_peer_port))
    authority = files.authority.pair.certificate
    return [
        files.bin / "etcd",
        "--name=devcluster",
        f"--data-dir={files.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=devcluster={peer}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={authority}",
        "--client-cert-auth",
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={authority}",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",  # a test cluster has nothing to lose when the machine's power fails
        "--log-level=warn",
    ]


def apiserver(files: ControlPlaneFiles, server: Pair, extra: Sequence[str]) -> list[str | Path]:
    """Command line of the API server.

    Args:
        server: its serving certificate.
        extra: further flags.
    """
    etcd_client = files.authority.issue("apiserver-etcd", "kube-apiserver")
    signing = files.authority.signing_pair("service-accounts")
    authority = files.authority.pair.certificate
    return [
        files.bin / "kube-apiserver",
        f"--etcd-servers=https://{files.address}:{files.etcd_port}",
        f"--etcd-cafile={authority}",
        f"--etcd-certfile={etcd_client.certificate}",
        f"--etcd-keyfile={etcd_client.key}",
        f"--bind-address={files.address}",
        f"--advertise-address={files.address}",
        f"--secure-port={files.port}",
        f"--cert-dir={files.state / 'certificates'}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        f"--client-ca-file={authority}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={signing.certificate}",
        f"--service-account-signing-key-file={signing.key}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
        "--profiling=false",
        "--shutdown-delay-duration=0",
        *extra,
    ]


def controller_manager(files: ControlPlaneFiles, extra: Sequence[str]) -> list[str | Path]:
    """Command line of the controller manager; it serves nothing."""
    kubeconfig = files.client("controller-manager", "system:kube-controller-manager")
    return [
        files.bin / "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--root-ca-file={files.authority.pair.certificate}",
        f"--service-account-private-key-file={files.authority.signing_pair('service-accounts').key}",
        "--leader-elect=false",
        "--secure-port=0",
        f"--flex-volume-plugin-dir={files.state / 'flex-volumes'}",  # otherwise made below /usr, when root
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        *extra,
    ]
