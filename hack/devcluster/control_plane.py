"""The control plane tier: etcd, API server and controller manager on 127.0.0.1, without root.

Invariant: each instance has its own state directory and free ports, so any number run side by side, and none of its
programs outlives the process that started it. There is no scheduler and no kubelet: a StatefulSet gets its Pods, and
the test binds them and writes their status itself (`devcluster.fake_node`).
"""

import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from devcluster import build, components
from devcluster.api import Api, ApiError
from devcluster.components import ControlPlaneFiles
from devcluster.errors import DevClusterError
from devcluster.processes import Component

ADDRESS = "127.0.0.1"
ATTEMPTS = 3
SERVICE_ACCOUNT = "system:serviceaccount:"

CONTROLLERS = ",".join(
    [
        "--controllers=*",
        # Nodes are fake here: nobody renews their lease, and no test wants its pods evicted for that.
        "-node-lifecycle-controller",
        "-taint-eviction-controller",
        # Loopback addresses are not accepted in EndpointSlices; these would only try again and again.
        "-endpoints-controller",
        "-endpointslice-controller",
        "-endpointslice-mirroring-controller",
    ]
)


class ControlPlane:
    """One control plane; a context manager, or `start` and `stop`."""

    def __init__(
        self,
        state: Path | None = None,
        *,
        apiserver_flags: Sequence[str] = (),
        controller_manager: bool = True,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            state: state directory; by default a temporary one, removed by `stop`.
            apiserver_flags: further flags of the API server.
            controller_manager: leave it out where nothing but the API is tested.
        """
        self._given_state = state
        self._apiserver_flags = list(apiserver_flags)
        self._with_controller_manager = controller_manager
        self._files: ControlPlaneFiles | None = None
        self._running: list[Component] = []

    def start(self) -> Self:
        """Build what is not built, start everything, return when it is ready (4 s).

        Raises:
            DevClusterError: a program did not come up; the message has the end of its log.
        """
        bin_folder = build.control_plane()
        for attempt in range(1, ATTEMPTS + 1):
            self._files = self._new_files(bin_folder)
            try:
                self._start(self._files)
                return self
            except DevClusterError as error:
                # Somebody else took a port between choosing it and listening on it.
                again = "address already in use" in str(error) and attempt < ATTEMPTS
                self.stop()
                if not again:
                    raise
            except BaseException:
                self.stop()
                raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """Stop everything, etcd last (an API server without its etcd does not end), and remove what was made."""
        while self._running:
            self._running.pop().stop()
        if self._files is not None:
            # A state directory that was given keeps its logs; the rest would not fit another start's ports.
            for folder in ("etcd", "certificates"):
                shutil.rmtree(self._files.state / folder, ignore_errors=True)
            if self._given_state is None:
                shutil.rmtree(self._files.state, ignore_errors=True)
        self._files = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bin(self) -> Path:
        """The folder with kubectl, helm and the others."""
        return self.files.bin

    @property
    def state(self) -> Path:
        """The state directory; the logs are in its folder `logs`."""
        return self.files.state

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.files.server

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig file."""
        return self.files.admin_kubeconfig

    @property
    def files(self) -> ControlPlaneFiles:
        """The files and addresses, while it runs."""
        if self._files is None:
            raise DevClusterError("The control plane does not run: call start() first.")
        return self._files

    def api(self) -> Api:
        """A small client, in the administrator's name."""
        return Api(self.kubeconfig)

    def component(self, name: str) -> Component:
        """One of the running programs: etcd, kube-apiserver or kube-controller-manager."""
        for component in self._running:
            if component.name == name:
                return component
        raise KeyError(name)

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a user, who has only the rights that the test grants.

        Args:
            user: a user name, or `system:serviceaccount:NAMESPACE:NAME` for an existing service account.
            groups: the groups of a user (a service account has its own).
        """
        name = user.replace(":", "_").replace("/", "_")
        if not user.startswith(SERVICE_ACCOUNT):
            return self.files.client(f"user-{name}", user, groups)
        namespace, account = user.removeprefix(SERVICE_ACCOUNT).split(":")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 86400},
        }
        answer = self.api().create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
        path = self.state / f"account-{name}.kubeconfig"
        return self.files.kubeconfigs.for_token(path, user, answer["status"]["token"])

    def _new_files(self, bin_folder: Path) -> ControlPlaneFiles:
        state = self._given_state
        if state is None:
            state = Path(tempfile.mkdtemp(prefix="devcluster-"))
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in ("etcd", "certificates"):
            shutil.rmtree(state / folder, ignore_errors=True)
        return ControlPlaneFiles(bin_folder, state.resolve(), ADDRESS, *free_ports(3))

    def _start(self, files: ControlPlaneFiles) -> None:
        for name in ("etcd", "kube-apiserver", "kube-controller-manager"):
            files.log(name).unlink(missing_ok=True)
        files.write_admin_kubeconfig()
        hosts = [ADDRESS, "localhost", components.API_SERVICE_ADDRESS, "kubernetes.default.svc"]
        server = files.authority.issue("apiserver", "kube-apiserver", hosts=hosts)
        flags = ["--endpoint-reconciler-type=none", *self._apiserver_flags]
        api = Api(files.admin_kubeconfig)

        # The API server waits for its etcd by itself.
        self._launch("etcd", components.etcd(files))
        apiserver = self._launch("kube-apiserver", components.apiserver(files, server, flags))
        apiserver.wait_until(lambda: self._alive() and api.ready())
        if self._with_controller_manager:
            manager = self._launch("kube-controller-manager", components.controller_manager(files, [CONTROLLERS]))
            manager.wait_until(lambda: _has_default_account(api))

    def _alive(self) -> bool:
        etcd = self.component("etcd")
        if etcd.exit_code is not None:
            raise DevClusterError(f"etcd ended with {etcd.exit_code}.\n{etcd.tail()}")
        return True

    def _launch(self, name: str, argv: Sequence[str | Path]) -> Component:
        component = Component(name, argv, self.files.log(name))
        component.start()
        self._running.append(component)
        return component


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((ADDRESS, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _has_default_account(api: Api) -> bool:
    """Pods can be made from now on; it also proves that the controller manager works."""
    try:
        api.get("/api/v1/namespaces/default/serviceaccounts/default")
        api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True
