"""Loads certificates from files that may be hostile. Performs no I/O."""

import warnings
from collections.abc import Callable, Iterable

from cryptography import x509


def loaded(load: Callable[[], Iterable[x509.Certificate]]) -> list[x509.Certificate]:
    """The certificates that a function loads; none if one can't be read.

    Args:
        load: Calls the library.
    """
    with warnings.catch_warnings():
        # Some certificates break rules that do not matter here, and some issuers write BER, not DER.
        warnings.simplefilter("ignore")
        try:
            certificates = list(load())
            for certificate in certificates:
                # The library parses these parts at their first use. So errors are raised here.
                _ = certificate.subject, certificate.issuer, certificate.extensions
                _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        except Exception:  # noqa: BLE001 - on a broken certificate the library can raise anything
            return []
    return certificates
