"""Parses XML from files that may be hostile, and writes its canonical form. Performs no I/O."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias
from xml.parsers import expat

from lxml import etree
from lxml.etree import _Element  # pyright: ignore[reportPrivateUsage] - the type's only name

from posten_signering.errors import ConfigurationError

Element: TypeAlias = _Element

NAMESPACES = {
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xades": "http://uri.etsi.org/01903/v1.3.2#",
    "signering": "http://signering.posten.no/schema/v1",
}

# In bytes. An XML file of a job has less than 100 KiB, and the service's XAdES may hold evidence.
_LARGEST = 4 * 1024 * 1024
# The time for the canonical form grows with the square of the number of attributes of an element, and
# with the cube of the number of namespaces. The library can't be interrupted meanwhile.
_MOST_PARTS = 5000
_MOST_NAMESPACES = 50

_C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_IS_EXCLUSIVE = {_C14N: False, _C14N_11: False, _EXCLUSIVE: True}
_XML_ATTRIBUTE = "{http://www.w3.org/XML/1998/namespace}"


class _PrologEndError(Exception):
    """A DOCTYPE or the root element was reached."""


def parse(content: bytes, *, name: str) -> Element:
    """The root element of an XML document.

    Args:
        content: The document.
        name: The name of the document for an error message.

    Raises:
        ConfigurationError: The document is too large, is not well-formed, or has a DOCTYPE or a
            processing instruction.
    """
    if len(content) > _LARGEST:
        raise ConfigurationError(
            f"{name} has more than {_LARGEST} bytes, which is too large to inspect."
        )
    _refuse_doctype(content, name)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
    root = None
    # The error would quote the content.
    with suppress(etree.XMLSyntaxError, ValueError, LookupError):
        root = etree.fromstring(content, parser)
    if root is None:
        raise _not_well_formed(name)
    if any(True for _ in root.iter(etree.ProcessingInstruction, etree.Entity)):
        raise ConfigurationError(
            f"{name} has a processing instruction or an entity. No file of the service has one, so it is "
            "not inspected."
        )
    if _has_too_many_parts(root):
        raise ConfigurationError(
            f"{name} has more than {_MOST_PARTS} elements and attributes, or more than {_MOST_NAMESPACES} "
            "declarations of namespaces, which are too many to inspect."
        )
    return root


def _has_too_many_parts(root: Element) -> bool:
    parts = namespaces = 0
    for _, part in etree.iterwalk(root, events=("start", "start-ns")):
        if isinstance(part, Element):
            parts += 1 + len(part.attrib)
        else:
            namespaces += 1
        if parts > _MOST_PARTS or namespaces > _MOST_NAMESPACES:
            return True
    return False


def _refuse_doctype(content: bytes, name: str) -> None:
    """Refuses a DOCTYPE before its declarations are read. lxml would read them first."""
    found: list[bool] = []

    def doctype(*_: object) -> None:
        found.append(True)
        raise _PrologEndError

    def element(*_: object) -> None:
        raise _PrologEndError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = element
    try:
        parser.Parse(content, True)
    except _PrologEndError:
        if not found:
            return
    except (expat.ExpatError, ValueError, LookupError):
        pass  # the error would quote the content
    if found:
        raise ConfigurationError(
            f"{name} has a DOCTYPE. No file of the service has one, so it is not inspected."
        )
    raise _not_well_formed(name)


def _not_well_formed(name: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is not well-formed XML. It may be damaged or cut off.")


def children(element: Element, path: str) -> list[Element]:
    """The elements at a path with the prefixes of `NAMESPACES`."""
    return element.findall(path, NAMESPACES)


def text(element: Element, path: str) -> str | None:
    """The text of the only element at a path, without white space around it; None if there is none or several."""
    found = children(element, path)
    return (found[0].text or "").strip() if len(found) == 1 else None


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return etree.QName(element).localname


def elements(root: Element, path: str) -> Iterator[Element]:
    """The root if it has this name, and every element below it that has."""
    prefix, _, name = path.partition(":")
    return root.iter(f"{{{NAMESPACES[prefix]}}}{name}")


def canonical(element: Element, algorithm: str) -> bytes | None:
    """The canonical form of an element and what is below it; None if it can't be made here.

    The element is serialised and parsed again first. In its place in a larger document, the library would
    add `xmlns=""` to descendants in a default namespace.

    Args:
        element: The element. The document was parsed without its comments.
        algorithm: The URI of the canonicalisation, which must be one that leaves comments out.
    """
    exclusive = _IS_EXCLUSIVE.get(algorithm)
    if exclusive is None:
        return None
    # The versions of C14N differ only in what they do with inherited attributes of the xml prefix.
    inherits = any(
        str(attribute).startswith(_XML_ATTRIBUTE)
        for ancestor in element.iterancestors()
        for attribute in ancestor.attrib
    )
    if inherits and not exclusive:
        return None
    # Escaped again, a text can be longer than the parser allows by default.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    alone = etree.fromstring(etree.tostring(element, with_tail=False), parser)
    try:
        return etree.tostring(alone, method="c14n", exclusive=exclusive, with_comments=False)
    except etree.C14NError:  # the name of a namespace is a relative URI
        return None
