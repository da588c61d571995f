"""Shared by all tests: asyncio, a clean environment, and fixtures for Debian's programs."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A shell without job control ignores SIGINT for a command in the background, and every process would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

CI = bool(os.environ.get("CI"))

# Deadlines and `too_slow` depend on the machine's speed, not on the code.
_NO_TIME_LIMITS = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("dev", **_NO_TIME_LIMITS)
hypothesis.settings.register_profile("ci", **_NO_TIME_LIMITS, derandomize=True, print_blob=True)
# For `make soak`: random examples, as many as SOAK_RUNS says.
hypothesis.settings.register_profile(
    "soak", **_NO_TIME_LIMITS, max_examples=int(os.environ.get("SOAK_RUNS", "1000")), database=None
)
hypothesis.settings.load_profile("ci" if CI else "dev")

# Environment variables that would change the behaviour of this package or of the libraries that it uses.
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, because tests with servers and processes often wait."""
    return (os.cpu_count() or 1) + 1


def pytest_report_header() -> str:
    """Print which copy of the package is tested: the checkout's or an installed one."""
    spec = importlib.util.find_spec("posten_signering")
    return f"posten_signering: {spec.origin if spec else 'not installed'}"


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Remove these variables, so that no test or program that it starts sees the user's settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_PREFIXES) or name.upper() in _VARIABLES:
                patch.delenv(name)
        # A pytest that a test starts would load this plugin too, which takes a second.
        patch.setenv("PYTEST_ADDOPTS", "-p no:schemathesis")
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asyncio, the only backend that the SDK supports."""
    return "asyncio"


def _program(*names: str, package: str) -> str:
    """The path of an installed program. If it is missing, the test is skipped, or fails in CI."""
    for name in names:
        if path := shutil.which(name):
            return path
    reason = f"{names[0]} is not installed (Debian: apt-get install {package})"
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def xmlsec1() -> str:
    """The path of `xmlsec1`, which verifies XML signatures."""
    return _program("xmlsec1", package="xmlsec1")


@pytest.fixture(scope="session")
def pdfsig() -> str:
    """The path of `pdfsig`, which verifies signatures in PDFs. It always exits with 0, so read its output."""
    return _program("pdfsig", package="poppler-utils")


@pytest.fixture(scope="session")
def pdftotext() -> str:
    """The path of `pdftotext`."""
    return _program("pdftotext", package="poppler-utils")


@pytest.fixture(scope="session")
def pdftoppm() -> str:
    """The path of `pdftoppm`, which renders the pages of PDFs."""
    return _program("pdftoppm", package="poppler-utils")


@pytest.fixture(scope="session")
def openssl() -> str:
    """The path of `openssl`, an independent reader of keys and certificates."""
    return _program("openssl", package="openssl")


@pytest.fixture(scope="session")
def curl() -> str:
    """The path of `curl`."""
    return _program("curl", package="curl")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    return _program("chromium", "chromium-browser", "google-chrome", package="chromium")


@pytest.fixture(scope="session")
def redis_server() -> str:
    """The path of `redis-server`."""
    return _program("redis-server", package="redis-server")


@pytest.fixture(scope="session")
def pg_ctl() -> str:
    """The path of PostgreSQL's `pg_ctl`. Debian's packages do not put it on PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return _program("pg_ctl", *map(str, debian), package="postgresql")


@pytest.fixture(scope="session")
def keytool() -> str:
    """The path of `keytool`, Java's tool for PKCS#12 files."""
    return _program("keytool", package="default-jre-headless")


@pytest.fixture(scope="session")
def make() -> str:
    """The path of `make`."""
    return _program("make", package="make")
