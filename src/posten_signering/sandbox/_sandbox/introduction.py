"""What a sandbox that was started from the command line tells of itself, and the files for clients."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path


class ClientFiles:
    """The files for clients in a directory.

    Args:
        directory: Made when it is not there.
    """

    def __init__(self, directory: Path) -> None:
        # Absolute, so that what is printed can be exported in any working directory.
        self.directory = directory.absolute()
        self.pkcs12 = self.directory / "client.p12"
        self.password = self.directory / "password.txt"
        self.trust = self.directory / "trust"
        """A folder with the CA certificates, one to a file, and nothing besides."""

    @property
    def root(self) -> Path:
        """The root certificate."""
        return self.trust / "root.pem"

    def write(self, *, pkcs12: bytes, password: str, authorities: Mapping[str, bytes]) -> None:
        """Writes them, over those of an earlier start."""
        files = {self.pkcs12: pkcs12, self.password: password.encode()}
        files |= {self.trust / f"{name}.pem": pem for name, pem in authorities.items()}
        self.trust.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path, content in files.items():
            # The key and its password are for this user only, also where the directory is not.
            path.touch(mode=0o600)
            path.chmod(0o600)
            path.write_bytes(content)


def introduction(
    *,
    service_root: str,
    pages_url: str,
    overview_url: str,
    control_url: str,
    files: ClientFiles,
    password: str,
    organization_number: str,
) -> Iterator[str]:
    """The lines that say how to use a sandbox."""
    yield f"API (mutual TLS): {service_root}"
    yield f"The signer's pages: {pages_url}"
    yield f"Overview: {overview_url}"
    yield f"Control API: {control_url} (OpenAPI document: {control_url}/openapi.json)"
    yield f"Client certificate: {files.pkcs12} (password: {files.password})"
    yield f"CA certificates: {files.trust}"
    yield ""
    yield "For ClientConfiguration.from_env():"
    variables = {
        "ENVIRONMENT": "Sandbox",
        "SERVICE_ROOT": service_root,
        "CERTIFICATE": str(files.pkcs12),
        "CERTIFICATE_PASSWORD": password,
        "TRUST_ANCHORS": str(files.root),
        "ORGANIZATION_NUMBER": organization_number,
    }
    for name, value in variables.items():
        yield f"export POSTEN_SIGNERING_{name}={shlex.quote(value)}"
    yield ""
    yield "For the official Java client:"
    yield (
        f'  KeyStoreConfig.fromOrganizationCertificate(Files.newInputStream(Path.of("{files.pkcs12}")),'
        f' "{password}")'
    )
    yield (
        f'  ServiceEnvironment.STAGING.withServiceUrl(URI.create("{service_root}"))'
        f'.withCertificates("{files.trust}")'
    )
    yield f'  new Sender("{organization_number}")'
    yield "For the official C# client:"
    yield f'  new X509Certificate2("{files.pkcs12}", "{password}")'
    # That client puts /api before its paths by itself.
    yield f'  environment.Url = new Uri("{service_root.removesuffix("/api")}")'
    yield f"  environment.AllowedChainCertificates: the certificates in {files.trust}"
    yield "  configuration.CertificateValidationPreferences.ValidateSenderCertificate = false"
    yield f'  new Sender("{organization_number}")'
    yield ""
