"""Environments: the service's URLs, and the authorities of each one."""

from datetime import timedelta

import pytest

from posten_signering import CertificateAuthority, Environment
from posten_signering.errors import ConfigurationError


class TestEnvironment:
    def test_the_environments_have_the_documented_urls_and_poll_waits(self):
        assert Environment.PRODUCTION.service_root == "https://api.signering.posten.no/api"
        assert Environment.STAGING.service_root == "https://api.difitest.signering.posten.no/api"
        assert Environment.DIFITEST is Environment.STAGING
        assert Environment.PRODUCTION.default_poll_wait.total_seconds() == 600
        assert Environment.STAGING.default_poll_wait.total_seconds() == 30

    def test_production_and_test_have_no_authority_in_common(self):
        production = {authority.sha256 for authority in Environment.PRODUCTION.authorities}
        test = {authority.sha256 for authority in Environment.STAGING.authorities}
        assert production
        assert test
        assert not production & test

    def test_every_issuer_is_an_authority_of_the_same_environment(self):
        for environment in (Environment.PRODUCTION, Environment.STAGING):
            names = {authority.name for authority in environment.authorities} | {None}
            assert {authority.issuer for authority in environment.authorities} <= names

    @pytest.mark.parametrize(
        "root",
        [
            "",
            "api.signering.posten.no/api",
            "localhost:8080/api",
            "http://localhost/api",
            "https://localhost/api/",
            "https://user@localhost/api",
            "https://localhost/api?a",
            "https://localhost/api#a",
            "https://local host/api",
            "https://localhost:65536/api",
            "https://localhost:99999/api",
            "https://localhost:0/api",
            "https://[::1::2]/api",
            "https://[1.2.3.4]/api",
            "https://[fe80::1%25eth0]/api",
            "https://999.1.1.1/api",
        ],
    )
    def test_a_service_root_that_is_not_an_absolute_https_url_is_refused(self, root):
        with pytest.raises(ConfigurationError, match="absolute https URL"):
            Environment(name="LOCAL", service_root=root)

    @pytest.mark.parametrize(
        "host", ["localhost:65535", "[::1]:1", "[::ffff:1.2.3.4]", "10.0.0.1", "1234567"]
    )
    def test_any_valid_host_and_port_is_accepted(self, host):
        root = f"https://{host}/api"
        assert Environment(name="LOCAL", service_root=root).service_root == root

    def test_an_application_can_define_its_own_environment(self):
        own = Environment(name="LOCAL", service_root="https://localhost:8443/api", authorities=[])
        assert own.authorities == ()
        assert hash(own) == hash(own)

    @pytest.mark.parametrize("wait", [timedelta(0), timedelta(seconds=-1), 30, None])
    def test_a_default_poll_wait_that_is_not_a_positive_time_is_refused(self, wait):
        with pytest.raises(ConfigurationError, match=r"default_poll_wait must be .* not "):
            Environment(name="LOCAL", service_root="https://localhost", default_poll_wait=wait)
        shortest = timedelta(microseconds=1)
        Environment(name="LOCAL", service_root="https://localhost", default_poll_wait=shortest)

    @pytest.mark.parametrize("number", ["", "98466118", "9846611850", "٩٨٤٦٦١١٨٥"])
    def test_an_invalid_organisation_number_is_refused(self, number):
        with pytest.raises(ConfigurationError, match="nine digits"):
            Environment(
                name="LOCAL", service_root="https://localhost", server_organization_number=number
            )

    def test_an_invalid_fingerprint_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"of My CA"):
            CertificateAuthority(name="My CA", sha256="AB" * 32)

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://ca.example/a.cer",
            "ca.example/a.cer",
            "http://ca.example:port/a.cer",
            "http://ca.example:65536/a.cer",
            "https://ca.example:0/a.cer",
            "http://[::1::2]/a.cer",
            "http://999.1.1.1/a.cer",
        ],
    )
    def test_an_invalid_published_at_is_refused(self, url):
        with pytest.raises(ConfigurationError, match="published_at of My CA is not valid"):
            CertificateAuthority(name="My CA", sha256="ab" * 32, published_at=url)

    @pytest.mark.parametrize(
        "url",
        ["http://ca.example:65535/a.cer", "https://[::1]/a.cer", "HTTP://CA.example", None],
    )
    def test_a_valid_published_at_is_accepted(self, url):
        authority = CertificateAuthority(name="My CA", sha256="ab" * 32, published_at=url)
        assert authority.published_at == url
