"""The verdicts of the sandbox and of xmlsec1 on a bundle."""

import re
import subprocess

import bundles
import certificates
import pytest
from bundles import NOW, SENDER, Recipe
from cryptography.hazmat.primitives.serialization import Encoding

from posten_signering.sandbox._intake.judge import judge
from posten_signering.sandbox._values.refusal import Refusal


def judged(recipe, **changes):
    arguments = {
        "content_type": bundles.CONTENT_TYPE,
        "body": b"" if "body" in changes else bundles.body_of(recipe),
        "organization_number": SENDER,
        "trusted": [certificates.root().certificate, certificates.intermediate().certificate],
        "now": lambda: NOW,
    }
    return judge(**{**arguments, **changes})


def refusal_of(recipe, **changes):
    with pytest.raises(Refusal) as caught:
        judged(recipe, **changes)
    assert caught.value.status == 400
    return caught.value


def accepted_by_xmlsec1(program, recipe, folder):
    """The number of references that xmlsec1 verifies in the bundle, or 0 if it rejects the signature."""
    for entry, content in bundles.entries(recipe):
        path = folder / "unpacked" / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "root.pem").write_bytes(certificates.root().certificate.public_bytes(Encoding.PEM))
    (folder / "intermediate.pem").write_bytes(
        certificates.intermediate().certificate.public_bytes(Encoding.PEM)
    )
    done = subprocess.run(
        [
            program,
            "--verify",
            "--trusted-pem",
            folder / "root.pem",
            "--untrusted-pem",
            folder / "intermediate.pem",
            "--id-attr:Id",
            "http://uri.etsi.org/01903/v1.3.2#:SignedProperties",
            "META-INF/signatures.xml",
        ],
        cwd=folder / "unpacked",
        check=False,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    counted = re.search(r"SignedInfo References \(ok/all\): (\d+)/(\d+)", output)
    if done.returncode == 0:
        assert counted is not None
        assert counted[1] == counted[2]
        return int(counted[2])
    return 0


def spoiled_signatures(change):
    """A bundle whose signature file was valid until `change` changed it."""
    recipe = Recipe()
    content = dict(bundles.entries(recipe))["META-INF/signatures.xml"]
    changed = change(content)
    assert changed != content
    return recipe.with_(signatures=changed)
