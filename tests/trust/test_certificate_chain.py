"""Which of several certificates stands for the key, and the chain that it is shown with."""

import itertools
from datetime import timedelta

import pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from posten_signering import EnterpriseCertificate
from posten_signering.errors import ConfigurationError


class TestChain:
    def test_a_leaf_alone_is_completed_from_the_anchors(self):
        alone = pki.sender().enterprise([])
        assert len(alone.chain) == 1
        anchors = [
            each.der for each in (pki.root(), pki.intermediate(), pki.intermediate("Sender CA"))
        ]

        chain, missing = alone.complete_chain(anchors)

        assert missing is None
        assert chain == pki.sender().enterprise().chain

    def test_the_missing_issuer_is_named(self):
        chain, missing = pki.sender().enterprise([]).complete_chain([])
        assert (len(chain), missing) == (1, "CN=Sender CA")
        chain, missing = (
            pki.sender().enterprise([]).complete_chain([pki.intermediate("Sender CA").der])
        )
        assert (len(chain), missing) == (2, "CN=Root")

    def test_an_issuer_of_the_same_name_with_another_key_is_not_taken(self):
        impostor = pki.issue(
            pki.subject("Sender CA"), pki.root(), ca=True, key=pki.rsa_key("impostor")
        )
        chain, missing = pki.sender().enterprise([impostor]).complete_chain([pki.root().der])
        assert (len(chain), missing) == (1, "CN=Sender CA")

    def test_a_renewed_certificate_over_the_same_key_wins(self):
        name = pki.subject("Sender", organization_identifier=f"NTRNO-{pki.SENDER}")
        renewed = pki.issue(
            name,
            pki.intermediate("Sender CA"),
            key=pki.sender().key,
            not_after=pki.NOW + timedelta(days=700),
        )
        both = EnterpriseCertificate.from_pem(pki.sender().pem + renewed.pem, pki.sender().key_pem)
        assert both.chain[0] == renewed.certificate

    def test_issuers_that_issue_each_other_end(self):
        a, b = pki.subject("A"), pki.subject("B")
        self_a = pki.Issued(pki.issue(a, ca=True).certificate, pki.rsa_key("CN=A"))
        b_by_a = pki.issue(b, self_a, ca=True)
        a_by_b = pki.issue(a, b_by_a, ca=True)
        leaf = pki.issue(pki.subject("leaf"), a_by_b)
        chain, missing = leaf.enterprise([a_by_b, b_by_a]).complete_chain([])
        assert len(chain) == 3
        assert missing == "CN=A"


class TestCrossSigned:
    """The key of an authority has certificates of several others: one way leads on, others end."""

    old = pki.issue(pki.subject("Old root that nobody has"), ca=True)
    by_old = pki.issue(pki.subject("Cross CA"), old, ca=True)
    by_root = pki.issue(pki.subject("Cross CA"), pki.root(), ca=True)
    leaf = pki.issue(pki.subject("leaf"), by_root)

    @pytest.mark.parametrize("order", list(itertools.permutations(["by_old", "by_root", "root"])))
    def test_the_way_to_a_root_is_found_in_any_order(self, order):
        there = {"by_old": self.by_old, "by_root": self.by_root, "root": pki.root()}
        certificate = self.leaf.enterprise([there[each] for each in order])
        wanted = (self.leaf.certificate, self.by_root.certificate, pki.root().certificate)
        assert certificate.chain == wanted
        alone = self.leaf.enterprise([]).complete_chain([there[each].der for each in order])
        assert alone == (wanted, None)

    @pytest.mark.parametrize("turned", [False, True])
    def test_without_a_root_the_longest_way_is_taken(self, turned):
        higher = pki.issue(pki.subject("Higher CA"), pki.root("Far root"), ca=True)
        by_higher = pki.issue(pki.subject("Cross CA"), higher, ca=True)
        pool = [self.by_old, by_higher, higher]
        certificate = self.leaf.enterprise(pool[::-1] if turned else pool)
        wanted = (self.leaf, by_higher, higher)
        assert certificate.chain == tuple(each.certificate for each in wanted)
        assert certificate.complete_chain([])[1] == "CN=Far root"

    def test_not_every_way_through_many_authorities_is_gone(self):
        """Fourteen who all certify each other: there are more ways than could ever be gone."""
        names = [f"CA {number}" for number in range(14)]
        by_themselves = {
            name: pki.issue(pki.subject(name), ca=True, key=self.by_old.key) for name in names
        }
        pool = [
            pki.issue(pki.subject(name), by_themselves[other], ca=True, key=self.by_old.key)
            for name, other in itertools.permutations(names, 2)
        ]
        leaf = pki.issue(pki.subject("leaf"), by_themselves["CA 0"])
        chain = leaf.enterprise(pool).chain
        assert chain[0] == leaf.certificate
        assert chain[1].subject == pki.subject("CA 0")


class TestSeveralForOneKey:
    @staticmethod
    def issued(usage, days=365):
        return pki.issue(
            pki.subject("Sender", organization_identifier=f"NTRNO-{pki.SENDER}"),
            pki.intermediate("Sender CA"),
            key=pki.sender().key,
            usage=usage,
            not_after=pki.NOW + timedelta(days=days),
        )

    @staticmethod
    def of(*issued):
        pems = b"".join(each.pem for each in issued)
        return EnterpriseCertificate.from_pem(pems, pki.sender().key_pem)

    @pytest.mark.parametrize("other", ["key_encipherment", "content_commitment"])
    @pytest.mark.parametrize("usage", ["digital_signature", None])
    def test_the_one_for_authentication_is_taken_however_long_the_others_last(self, usage, other):
        fit, unfit = self.issued(usage, days=100), self.issued(other, days=900)
        for order in ((fit, unfit), (unfit, fit)):
            assert self.of(*order).chain[0] == fit.certificate

    def test_of_several_for_authentication_the_one_that_lasts_longest(self):
        short, long = self.issued("digital_signature", 100), self.issued("digital_signature", 200)
        for order in ((short, long), (long, short)):
            assert self.of(*order).chain[0] == long.certificate

    def test_one_whose_extensions_can_not_be_read_is_no_obstacle(self):
        broken = x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x04\x01")
        builder = (
            x509.CertificateBuilder()
            .subject_name(pki.subject("Sender"))
            .issuer_name(pki.subject("Sender"))
            .public_key(pki.sender().key.public_key())
            .serial_number(1)
            .not_valid_before(pki.NOW)
            .not_valid_after(pki.NOW + timedelta(days=999))
            .add_extension(broken, critical=False)
        )
        unread = pki.Issued(builder.sign(pki.sender().key, hashes.SHA256()), pki.sender().key)
        fit = self.issued("digital_signature")
        assert self.of(unread, fit).chain[0] == fit.certificate
        with pytest.raises(ConfigurationError, match="extensions can't be read"):
            self.of(unread)

    def test_where_none_is_for_authentication_it_is_told(self):
        with pytest.raises(ConfigurationError, match="use the one for authentication"):
            self.of(self.issued("key_encipherment"), self.issued("content_commitment"))
