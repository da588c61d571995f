"""The settings of the command line for a sandbox, and a guard against every other service."""

import socket
from pathlib import Path

from posten_signering.sandbox import ThreadedSandbox


def variables(
    sandbox: ThreadedSandbox, folder: Path, *, organization_number: str = "123456789"
) -> dict[str, str]:
    """The environment variables for a client of the sandbox. Its files are written to the folder."""
    content, password = sandbox.enterprise_pkcs12(organization_number)
    certificate, root = folder / "client.p12", folder / "root.pem"
    certificate.write_bytes(content)
    root.write_bytes(sandbox.ca_pem)
    return {
        "POSTEN_SIGNERING_CERTIFICATE": str(certificate),
        "POSTEN_SIGNERING_CERTIFICATE_PASSWORD": password,
        "POSTEN_SIGNERING_TRUST_ANCHORS": str(root),
        "POSTEN_SIGNERING_SERVICE_ROOT": sandbox.service_root,
    }


def refuse_host_names(monkeypatch) -> None:
    """Makes every look-up of a host name fail, so that no code can reach the real service."""

    look_up = socket.getaddrinfo

    def refuse(host, *arguments, **options):
        if host == "127.0.0.1":
            return look_up(host, *arguments, **options)
        raise socket.gaierror(socket.EAI_NONAME, "Unknown host")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
