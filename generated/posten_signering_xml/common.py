from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict
from xsdata_pydantic.fields import field

__NAMESPACE__ = "http://signering.posten.no/schema/v1"


class AccessibleByUrl(BaseModel):
    """
    A resource of the service that has its own URL.

    Attributes:
        href: The URL, for calls that the sender makes over mutual TLS. It is not for a
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
    The lowest security level that a signer's e-ID may have.

    The default is level 4. Private senders can only request level 4.

    Attributes:
        VALUE_3: Security level 3. Only for public senders.
        VALUE_4: Security level 4.
    """

    VALUE_3 = "3"
    VALUE_4 = "4"


class EmptyElement(BaseModel):
    """
    An element without content.

    Its presence is the information.
    """

    class Meta:
        name = "empty-element"

    model_config = ConfigDict(defer_build=True)


class Error(BaseModel):
    """
    The response of the service to a request that it refuses.

    Programs decide by the code. The message is for people who read logs.

    Attributes:
        error_code: The name of the error, in capital letters. The service may add new codes
            at any time.
        error_message: A sentence that describes the error.
        error_type: Who must act. CLIENT means that the sender must change the request before
            it sends it again.
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
    How the signed documents identify the signers.

    They show a personal identification number only for signers whom the job identifies by it.

    Attributes:
        PERSONAL_IDENTIFICATION_NUMBER_AND_NAME: Personal identification number and name.
        DATE_OF_BIRTH_AND_NAME: Date of birth and name. Public senders can use it only with
            authenticated signatures.
        NAME: Only the name. Only for public senders, with authenticated signatures.
    """

    PERSONAL_IDENTIFICATION_NUMBER_AND_NAME = "PERSONAL_IDENTIFICATION_NUMBER_AND_NAME"
    DATE_OF_BIRTH_AND_NAME = "DATE_OF_BIRTH_AND_NAME"
    NAME = "NAME"


class Sender(BaseModel):
    """
    The organisation that requests the signatures.

    A broker that sends a job for another organisation names that organisation here, not its
    own.

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
    The type of the signature.

    Private senders can only request advanced signatures. The default of public senders is an
    authenticated signature.

    Attributes:
        ADVANCED_ELECTRONIC_SIGNATURE: The signer signs with the signature function of an
            e-ID.
        AUTHENTICATED_ELECTRONIC_SIGNATURE: The signer logs in with an e-ID and then
            consents. Only for public senders.
    """

    ADVANCED_ELECTRONIC_SIGNATURE = "ADVANCED_ELECTRONIC_SIGNATURE"
    AUTHENTICATED_ELECTRONIC_SIGNATURE = "AUTHENTICATED_ELECTRONIC_SIGNATURE"


class SigningOnBehalfOf(Enum):
    """
    Whom the signer acts for.

    The default is SELF.

    Attributes:
        SELF: The signer acts as a private person.
        OTHER: The signer acts for somebody else, for example an organisation. The service
            shows this to the signer, and does not forward the signed documents to the
            signer's private digital mailbox.
    """

    SELF = "SELF"
    OTHER = "OTHER"
