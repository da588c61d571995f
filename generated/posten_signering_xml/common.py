from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict
from xsdata_pydantic.fields import field

__NAMESPACE__ = "http://signering.posten.no/schema/v1"


class AccessibleByUrl(BaseModel):
    """
    Something of the service that has an address of its own.

    Attributes:
        href: The address, for the sender's own calls over mutual TLS. It is not meant for a
            browser.
    """

    class Meta:
        name = "accessible-by-url"

    model_config = ConfigDict(defer_build=True)
    href: str = field(
        metadata={
            "type": "Attribute",
            "max_length": 500,
        }
    )


class AuthenticationLevel(Enum):
    """
    The lowest security level of an e-ID that the signers may use.

    Level 4 when nothing is said; private senders can ask for 4 only.

    Attributes:
        VALUE_3: Security level 3. Public senders only.
        VALUE_4: Security level 4.
    """

    VALUE_3 = "3"
    VALUE_4 = "4"


class EmptyElement(BaseModel):
    """
    An element without content: that it is there is the whole message.
    """

    class Meta:
        name = "empty-element"

    model_config = ConfigDict(defer_build=True)


class Error(BaseModel):
    """
    The answer of the service to a request that it refuses.

    Programs decide by the code; the message is for people who read logs.

    Attributes:
        error_code: The name of what went wrong, in capital letters. New codes may appear at
            any time.
        error_message: What went wrong, told in a sentence.
        error_type: Who has to act: CLIENT means that the request must be changed before it
            is sent again.
    """

    class Meta:
        name = "error"
        namespace = "http://signering.posten.no/schema/v1"

    model_config = ConfigDict(defer_build=True)
    error_code: str = field(
        metadata={
            "name": "error-code",
            "type": "Element",
        }
    )
    error_message: str = field(
        metadata={
            "name": "error-message",
            "type": "Element",
        }
    )
    error_type: str = field(
        metadata={
            "name": "error-type",
            "type": "Element",
        }
    )


class IdentifierInSignedDocuments(Enum):
    """
    How the signed documents present the signers.

    A personal identification number is shown only for signers whom the sender addressed by it.

    Attributes:
        PERSONAL_IDENTIFICATION_NUMBER_AND_NAME: Personal identification number and name.
        DATE_OF_BIRTH_AND_NAME: Date of birth and name. A public sender can ask for it with
            authenticated signatures only.
        NAME: Name alone. Public senders only, and with authenticated signatures only.
    """

    PERSONAL_IDENTIFICATION_NUMBER_AND_NAME = "PERSONAL_IDENTIFICATION_NUMBER_AND_NAME"
    DATE_OF_BIRTH_AND_NAME = "DATE_OF_BIRTH_AND_NAME"
    NAME = "NAME"


class Sender(BaseModel):
    """
    The organisation on whose behalf signatures are asked for.

    A broker that sends for others names the other organisation here, not its own.

    Attributes:
        organization_number: The nine digits of the sender's organisation number.
    """

    class Meta:
        name = "sender"

    model_config = ConfigDict(defer_build=True)
    organization_number: str = field(
        metadata={
            "name": "organization-number",
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "pattern": r"[0-9]{9}",
        }
    )


class SignatureType(Enum):
    """
    The kind of signature that is asked for.

    Private senders can ask for an advanced one only; public senders get an authenticated one
    when nothing is said.

    Attributes:
        ADVANCED_ELECTRONIC_SIGNATURE: The signer signs with the signature function of an
            e-ID.
        AUTHENTICATED_ELECTRONIC_SIGNATURE: The signer logs in with an e-ID and then
            consents. Public senders only.
    """

    ADVANCED_ELECTRONIC_SIGNATURE = "ADVANCED_ELECTRONIC_SIGNATURE"
    AUTHENTICATED_ELECTRONIC_SIGNATURE = "AUTHENTICATED_ELECTRONIC_SIGNATURE"


class SigningOnBehalfOf(Enum):
    """
    Whom the signer acts for.

    SELF when nothing is said.

    Attributes:
        SELF: The signer acts as a private person.
        OTHER: The signer acts for somebody else, such as an organisation. The signer is told
            so, and the signed documents are not forwarded to the signer's private digital
            mailbox.
    """

    SELF = "SELF"
    OTHER = "OTHER"
