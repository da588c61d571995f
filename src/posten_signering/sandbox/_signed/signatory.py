"""Who has signed, and how the signed documents name them. Performs no I/O."""

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatory:
    """One who has signed.

    Attributes:
        name: The name that their e-ID gave.
        personal_identification_number: Set if the sender addressed them by it.
        signed_at: When they signed: an aware time.
        signature_type: The wire's value, or `None` when the manifest left it out.
        on_behalf_of: `SELF` or `OTHER`.
    """

    name: str = field(repr=False)
    personal_identification_number: str | None = field(repr=False)
    signed_at: datetime
    signature_type: str | None
    on_behalf_of: str


def shown_identity(signatory: Signatory, identifier_in_signed_documents: str | None) -> str | None:
    """What stands below a signatory's name ("Signert dokument"), or `None` for the name alone.

    An identity number shows only for those whom the sender addressed by it; of the others this
    service knows no date of birth either.

    Args:
        signatory: Who has signed.
        identifier_in_signed_documents: The wire's value; left out, it is the number and the name.
    """
    number = signatory.personal_identification_number
    if number is None or identifier_in_signed_documents == "NAME":
        return None
    if identifier_in_signed_documents == "DATE_OF_BIRTH_AND_NAME":
        born = date_of_birth(number)
        return f"Born {born.isoformat()}" if born is not None else None
    return f"National identity number {number[:6]} {number[6:]}"


def date_of_birth(number: str) -> date | None:
    """The date of birth in a national identity number, or `None` if it holds none.

    D-numbers add 40 to the day, synthetic numbers 40, 65 or 80 to the month; digits 7 to 9 tell the
    century (Skatteetaten, "Fødselsnummer").

    Args:
        number: 11 digits.
    """
    day, month, year, individual = (
        int(number[:2]),
        int(number[2:4]),
        int(number[4:6]),
        int(number[6:9]),
    )
    day -= 40 if day > 40 else 0
    month -= next((added for added in (80, 65, 40) if month > added), 0)
    if individual < 500 or (individual >= 900 and year >= 40):
        century = 1900
    elif individual < 750 and year >= 54:
        century = 1800
    else:
        century = 2000
    try:
        return date(century + year, month, day)
    except ValueError:
        return None
