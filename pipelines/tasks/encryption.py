"""Define the option of clusters whose client, scheduler and workers speak TLS."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from distributed.security import Security
from pydantic import Field

from pipelines.refusal import RefusedError
from pipelines.tasks.workers import Cluster

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
"""Files of a folder of certificates, in the PEM format."""


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
        if self.tls is None:
            return Security()
        folder = Path(self.tls)
        certificate, key = str(folder / CERTIFICATE), str(folder / KEY)
        roles = ("client", "scheduler", "worker")
        return Security(
            require_encryption=True,
            tls_ca_file=str(folder / AUTHORITY),
            **{f"tls_{role}_cert": certificate for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )
