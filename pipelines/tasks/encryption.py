"""Define the option of clusters whose client, scheduler and workers speak TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import dask
from distributed.security import Security
from pydantic import Field

from pipelines.refusal import RefusedError
from pipelines.tasks.workers import Cluster

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
"""Files of a folder of certificates, in the PEM format."""


def make_certificates(folder: Path) -> None:
    """Fill a folder with new certificates that trust each other alone; only its owner can read them."""
    made = Security.temporary()
    fields = {AUTHORITY: "tls_ca_file", CERTIFICATE: "tls_scheduler_cert", KEY: "tls_scheduler_key"}
    for name, field in fields.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(getattr(made, field), encoding="ascii")


class Encrypted(Cluster):
    """A cluster that is reached through a network; Dask's own configuration holds where `tls` is not said."""

    paths: ClassVar[tuple[str, ...]] = ("tls",)

    tls: str | None = Field(
        default=None,
        min_length=1,
        description=f"Folder with {AUTHORITY}, {CERTIFICATE} and {KEY}, by which client, scheduler and workers know "
        "each other; Dask's configuration (distributed.comm.tls) by default.",
    )

    def require(self) -> None:
        """Refuse certificates that are missing, or cannot be read.

        Raises
        ------
        RefusedError
        """
        super().require()
        if self.tls is None:
            return
        missing = [name for name in (AUTHORITY, CERTIFICATE, KEY) if not (Path(self.tls) / name).is_file()]
        if missing:
            raise RefusedError(
                f"The folder of certificates {self.tls} lacks {', '.join(missing)}. It holds {AUTHORITY} (whom to "
                f"trust), {CERTIFICATE} and {KEY} (who this is), all PEM."
            )
        try:
            self.security().get_connection_args("client")
        except (OSError, ValueError) as error:
            raise RefusedError(
                f"The certificates in {self.tls} cannot be used ({error}). Check that {KEY} belongs to {CERTIFICATE}, "
                "and that all are PEM."
            ) from None

    def security(self) -> Security:
        """Return the certificates of the folder for all three roles, or those of Dask's configuration."""
        with dask.config.set(self.tls_settings()):
            return Security()

    def tls_settings(self) -> dict[str, Any]:
        """Return the settings of Dask that mean the certificates of the folder; none where none is said."""
        if self.tls is None:
            return {}
        folder, settings = Path(self.tls), "distributed.comm.tls"
        files = {f"{settings}.ca-file": folder / AUTHORITY}
        for role in ("client", "scheduler", "worker"):
            files |= {f"{settings}.{role}.cert": folder / CERTIFICATE, f"{settings}.{role}.key": folder / KEY}
        return {
            "distributed.comm.require-encryption": True,
            **{name: str(path) for name, path in files.items()},
        }
