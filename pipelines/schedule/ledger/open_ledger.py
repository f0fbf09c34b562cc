"""Open a ledger by its path or address."""

from __future__ import annotations

from pipelines.schedule.ledger.in_store import LedgerInStore
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.on_disk import LedgerOnDisk
from pipelines.store.addresses import local_path


def open_ledger(address: str) -> Ledger:
    """Return a ledger, which is made with the first source that is noted.

    Parameters
    ----------
    address : str
        A path, or an address in an object store.

    Raises
    ------
    LedgerError
    """
    path = local_path(address)
    return LedgerInStore(address) if path is None else LedgerOnDisk(path)
