from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from xsdata_pydantic.fields import field

__NAMESPACE__ = "http://signering.posten.no/schema/v1"


class LegacyDirectDocument(BaseModel):
    """
    Deprecated.

    The only document of a job; its title and description are also those of the job. New
    manifests have a title for the job and a list of documents.

    Attributes:
        title: The title of the document and of the job, 1 to 80 characters.
        description: Optional. A message to the signers, at most 220 characters.
        href: The name of the document's file in the container, 4 to 100 characters.
        mime: The media type of the document, 1 to 100 characters: application/pdf or
            text/plain.
    """

    class Meta:
        name = "legacy-direct-document"

    model_config = ConfigDict(defer_build=True)
    title: str = field(
        metadata={
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "min_length": 1,
            "max_length": 80,
        }
    )
    description: None | str = field(
        default=None,
        metadata={
            "type": "Element",
            "namespace": "http://signering.posten.no/schema/v1",
            "max_length": 220,
        },
    )
    href: str = field(
        metadata={
            "type": "Attribute",
            "min_length": 4,
            "max_length": 100,
        }
    )
    mime: str = field(
        metadata={
            "type": "Attribute",
            "min_length": 1,
            "max_length": 100,
        }
    )
