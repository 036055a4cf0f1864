"""Certificates for a trial of `seccogc.serve` and `seccogc.join`: those of `seccogc pki`."""

from __future__ import annotations

from collections.abc import Sequence

from seccogc import _native
from seccogc._config import PathLike
from seccogc._deploy import check_built

__all__ = ["init", "issue", "revoke"]


def init(pki: PathLike = "pki", *, hosts: Sequence[str] = ("localhost", "127.0.0.1")) -> None:
    """Makes an authority and the server's certificate in a folder that is new or empty.

    The authority's key goes to a folder of its own, PKI-authority, which nobody else gets. Clients reach the
    server under one of the `hosts`.
    """
    check_built()
    _native.pki_init(pki, list(hosts))


def issue(name: str, pki: PathLike = "pki", *, hosts: Sequence[str] = (), days: int | None = None) -> None:
    """Makes a client's certificate, valid for `days`; others reach it under its `hosts`, if it listens."""
    check_built()
    _native.pki_issue(pki, name, list(hosts), days)


def revoke(name: str, pki: PathLike = "pki") -> None:
    """Revokes a client's certificate: copy ca.crl beside ca.crt wherever that is."""
    check_built()
    _native.pki_revoke(pki, name)
