"""Certificates of an authority of a test's own."""

from __future__ import annotations

from pathlib import Path

import trustme


def make_certificates(folder: Path) -> Path:
    """Fill a folder with an authority, and the certificate and key of this machine, and return it."""
    folder.mkdir()
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    own.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    own.private_key_pem.write_to_path(folder / "key.pem")
    return folder
