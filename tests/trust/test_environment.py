"""Environments: where the service is, and whose certificates vouch for it."""

import pytest

from posten_signering import CertificateAuthority, Environment
from posten_signering.errors import ConfigurationError


class TestEnvironment:
    def test_where_the_service_is(self):
        assert Environment.PRODUCTION.service_root == "https://api.signering.posten.no/api"
        assert Environment.STAGING.service_root == "https://api.difitest.signering.posten.no/api"
        assert Environment.DIFITEST is Environment.STAGING
        assert Environment.PRODUCTION.default_poll_wait.total_seconds() == 600
        assert Environment.STAGING.default_poll_wait.total_seconds() == 30

    def test_no_authority_vouches_for_production_and_test_alike(self):
        production = {each.sha256 for each in Environment.PRODUCTION.authorities}
        test = {each.sha256 for each in Environment.STAGING.authorities}
        assert production
        assert test
        assert not production & test

    def test_every_issuer_is_an_authority_of_the_same_environment(self):
        for each in (Environment.PRODUCTION, Environment.STAGING):
            names = {authority.name for authority in each.authorities} | {None}
            assert {authority.issuer for authority in each.authorities} <= names

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
            "https://1234567/api",
        ],
    )
    def test_a_service_root_that_is_no_absolute_https_url(self, root):
        with pytest.raises(ConfigurationError, match="absolute https URL"):
            Environment(name="LOCAL", service_root=root)

    @pytest.mark.parametrize("host", ["localhost:65535", "[::1]:1", "[::ffff:1.2.3.4]", "10.0.0.1"])
    def test_any_host_and_port_there_can_be(self, host):
        """The twin of the test above."""
        root = f"https://{host}/api"
        assert Environment(name="LOCAL", service_root=root).service_root == root

    def test_an_environment_of_ones_own(self):
        made = Environment(name="LOCAL", service_root="https://localhost:8443/api", authorities=[])
        assert made.authorities == ()
        assert hash(made) == hash(made)

    @pytest.mark.parametrize("number", ["", "98466118", "9846611850", "٩٨٤٦٦١١٨٥"])
    def test_an_organisation_number_of_another_form(self, number):
        with pytest.raises(ConfigurationError, match="nine digits"):
            Environment(
                name="LOCAL", service_root="https://localhost", server_organization_number=number
            )

    def test_a_fingerprint_of_another_form(self):
        with pytest.raises(ConfigurationError, match=r"of My CA"):
            CertificateAuthority(name="My CA", sha256="AB" * 32)

    @pytest.mark.parametrize(
        "address",
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
    def test_an_address_that_is_none(self, address):
        with pytest.raises(ConfigurationError, match="My CA is published"):
            CertificateAuthority(name="My CA", sha256="ab" * 32, published_at=address)

    @pytest.mark.parametrize(
        "address",
        ["http://ca.example:65535/a.cer", "https://[::1]/a.cer", "HTTP://CA.example", None],
    )
    def test_an_address_that_is_one(self, address):
        """The twin of the test above."""
        authority = CertificateAuthority(name="My CA", sha256="ab" * 32, published_at=address)
        assert authority.published_at == address
