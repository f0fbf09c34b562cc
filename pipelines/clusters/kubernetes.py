"""Workers that are pods of Kubernetes, by the operator of Dask."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from pipelines.tasks.hired import Lines, Sized
from pipelines.tasks.memory import DRIVER_BYTES
from pipelines.tasks.workers import CLUSTERS, ClusterError, Wanted, Workers, quiet_logs

ANSWER_SECONDS = 60
"""Time in which the operator has to start a scheduler."""

HARMLESS = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What a container may not do."""


@CLUSTERS.register("kubernetes")
class Kubernetes(Sized):
    """A DaskCluster for the time of the run: a scheduler, and pods of one worker each."""

    about = "pods of Kubernetes, by Dask's operator"
    library = "dask_kubernetes"
    extra = "kubernetes"

    image: str = Field(min_length=1, description="Image of scheduler and workers, which has this package.")
    namespace: str | None = Field(
        default=None, min_length=1, description="Namespace; that of the context by default."
    )
    environment: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of the pods, none of them secret."
    )
    secrets: Lines = Field(
        default=(),
        description="Names of Secrets whose values become variables, such as those of an object store.",
    )
    claims: Mapping[str, str] = Field(
        default_factory=dict,
        description="Where PersistentVolumeClaims are mounted: {images: /data}. Workers see source, target and "
        "run.workdir there under the names of the spec.",
    )
    account: str | None = Field(default=None, min_length=1, description="ServiceAccount of the pods.")

    @contextlib.contextmanager
    def connect(self, wanted: Wanted) -> Iterator[Workers]:
        """Create the cluster, and delete it in the end."""
        with quiet_logs():
            cluster = self._start(wanted)
            with cluster, cluster.get_client() as client:
                awaited = f"Look at its pods: kubectl describe pods -l dask.org/cluster-name={cluster.name}."
                yield Workers(client, cluster.dashboard_link, self.patience, awaited)

    def _start(self, wanted: Wanted) -> Any:
        """Return a cluster that the operator has created.

        Raises
        ------
        ClusterError
            For whatever Kubernetes, its library or the network says.
        """
        import kr8s
        from dask_kubernetes.operator import KubeCluster

        try:
            # A cluster that cannot be created leaves a loop behind: knock first. This needs what creating it needs.
            list(kr8s.get("daskclusters.kubernetes.dask.org", namespace=self.namespace))
            cluster = KubeCluster(
                custom_cluster_spec=self.manifest(wanted, f"diffuse-{uuid.uuid4().hex[:8]}"),
                namespace=self.namespace,
                resource_timeout=ANSWER_SECONDS,
                quiet=True,
            )
            if (least := self.least_of(wanted)) < wanted.tasks:
                cluster.adapt(minimum=least, maximum=wanted.tasks)
        except Exception as error:
            raise ClusterError(
                f"Kubernetes gives no cluster ({type(error).__name__}: {error}). Check the context of kubectl, the "
                "namespace and its rights, and that Dask's operator is installed there."
            ) from None
        return cluster

    def manifest(self, wanted: Wanted, name: str) -> dict[str, Any]:
        """Return the DaskCluster that the operator is asked for."""
        selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
        ports = {"tcp-comm": 8786, "http-dashboard": 8787}
        worker = ["--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
        probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}}
        return {
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskCluster",
            "metadata": {"name": name},
            "spec": {
                "worker": {
                    "replicas": self.least_of(wanted),
                    "spec": self._pod(
                        "worker",
                        [*worker, "--no-dashboard"],
                        self.memory_of(wanted),
                        ports={"http-dashboard": 8788},
                    ),
                },
                "scheduler": {
                    "spec": self._pod(
                        "scheduler",
                        ["--host", "0.0.0.0", "--dashboard" if wanted.dashboard else "--no-dashboard"],
                        2 * DRIVER_BYTES,
                        ports,
                        readinessProbe={**probe, "periodSeconds": 1, "timeoutSeconds": 300},
                        livenessProbe={**probe, "initialDelaySeconds": 15, "periodSeconds": 20},
                    ),
                    "service": {
                        "type": "ClusterIP",
                        "selector": selector,
                        "ports": [
                            {"name": key, "protocol": "TCP", "port": port, "targetPort": key}
                            for key, port in ports.items()
                        ],
                    },
                },
            },
        }

    def _pod(
        self, role: str, words: list[str], memory: int, ports: Mapping[str, int], **more: Any
    ) -> dict[str, Any]:
        """Return a pod of one container that runs `dask scheduler` or `dask worker`, whatever the image does else."""
        size = {"cpu": "1", "memory": str(memory)}
        places = [*self.claims.items(), ("scratch", "/tmp")]
        container = {
            "name": role,
            "image": self.image,
            "command": ["python", "-m", f"distributed.cli.dask_{role}"],
            "args": words,
            "env": [{"name": key, "value": value} for key, value in self.environment.items()],
            "envFrom": [{"secretRef": {"name": secret}} for secret in self.secrets],
            "resources": {"requests": size, "limits": {"memory": size["memory"]}},
            "ports": [{"name": key, "containerPort": port, "protocol": "TCP"} for key, port in ports.items()],
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in places],
            "securityContext": HARMLESS,
            **more,
        }
        claimed = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in self.claims]
        return {
            "containers": [container],
            "volumes": [*claimed, {"name": "scratch", "emptyDir": {}}],
            "automountServiceAccountToken": False,
            **({"serviceAccountName": self.account} if self.account else {}),
        }
