"""What every test has: asyncio, a scrubbed environment, and Debian's programs as fixtures."""

import importlib.util
import os
import shutil
from collections.abc import Iterator

import hypothesis
import pytest

CI = bool(os.environ.get("CI"))

# Deadlines and `too_slow` measure the machine, not the code.
_NO_CLOCK = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("dev", **_NO_CLOCK)
hypothesis.settings.register_profile("ci", **_NO_CLOCK, derandomize=True, print_blob=True)
# For `make soak`: at random, and as many as it is told to.
hypothesis.settings.register_profile(
    "soak", **_NO_CLOCK, max_examples=int(os.environ.get("SOAK_RUNS", "1000")), database=None
)
hypothesis.settings.load_profile("ci" if CI else "dev")

# What a shell may hold that steers this package, or the libraries below it.
_PREFIXES = ("POSTEN_SIGNERING_",)
_VARIABLES = {
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSLKEYLOGFILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
}


def pytest_report_header() -> str:
    """Say which copy of the package is tested: the checkout's or an installed one."""
    found = importlib.util.find_spec("posten_signering")
    return f"posten_signering: {found.origin if found else 'not installed'}"


@pytest.fixture(scope="session", autouse=True)
def _scrubbed_environment() -> Iterator[None]:
    """No variable of the person who runs the tests reaches a test, a fixture or a program it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_PREFIXES) or name.upper() in _VARIABLES:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio, the one backend that the SDK promises."""
    return "asyncio"


def _program(*names: str, package: str) -> str:
    """The path of a program of Debian's: without it a test is skipped, and in CI it fails."""
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"needs {names[0]} (Debian: apt-get install {package})"
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def xmlsec1() -> str:
    """Path of `xmlsec1`, which verifies XML signatures."""
    return _program("xmlsec1", package="xmlsec1")


@pytest.fixture(scope="session")
def pdfsig() -> str:
    """Path of `pdfsig`, which verifies signatures in PDFs: read its text, it exits 0 whatever it finds."""
    return _program("pdfsig", package="poppler-utils")


@pytest.fixture(scope="session")
def pdftotext() -> str:
    """Path of `pdftotext`."""
    return _program("pdftotext", package="poppler-utils")


@pytest.fixture(scope="session")
def pdftoppm() -> str:
    """Path of `pdftoppm`, which draws the pages of PDFs."""
    return _program("pdftoppm", package="poppler-utils")


@pytest.fixture(scope="session")
def openssl() -> str:
    """Path of `openssl`, the independent reader of keys and certificates."""
    return _program("openssl", package="openssl")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium."""
    return _program("chromium", "chromium-browser", "google-chrome", package="chromium")


@pytest.fixture(scope="session")
def redis_server() -> str:
    """Path of `redis-server`."""
    return _program("redis-server", package="redis-server")


@pytest.fixture(scope="session")
def keytool() -> str:
    """Path of `keytool`, with which Java makes PKCS#12 files."""
    return _program("keytool", package="default-jre-headless")


@pytest.fixture(scope="session")
def make() -> str:
    """Path of `make`."""
    return _program("make", package="make")
