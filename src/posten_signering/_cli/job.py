"""A signature job from a YAML or JSON file, from options, or from both."""

import difflib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import yaml
from cyclopts import Group, Parameter

from posten_signering import (
    AuthenticationLevel,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    Sender,
    SignatureType,
    StatusRetrievalMethod,
)
from posten_signering._cli.options import interruptible
from posten_signering.errors import ConfigurationError

Choice = TypeVar("Choice", bound=StrEnum)

_TEXT_FILES = {".txt", ".text"}
_LONGEST_TITLE = 80
_FileOrStdin = Annotated[Path, Parameter(allow_leading_hyphen=True)]  # "-" is standard input
_JOB = Group("Job", sort_key=0)

# The keys of a job file.
_JOB_KEYS = (
    *("title", "description", "reference", "documents", "signers", "exit_urls", "sender"),
    *("authentication_level", "identifier_in_signed_documents", "status_retrieval_method"),
)
_DOCUMENT_KEYS = ("file", "title", "type")
_SIGNER_KEYS = (
    *("personal_identification_number", "custom_identifier", "signature_type", "on_behalf_of"),
)
_EXIT_URL_KEYS = ("completion", "rejection", "error")
_SENDER_KEYS = ("organization_number", "polling_queue")
_ALL_KEYS = (*_JOB_KEYS, *_DOCUMENT_KEYS, *_SIGNER_KEYS, *_EXIT_URL_KEYS, *_SENDER_KEYS)


@Parameter(name="*", group=_JOB)
@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What the options say about a job. They override the job file.

    Attributes:
        job: A YAML or JSON file that describes the job; "-" reads standard input. Its keys are in docs/reference/command-line.md.
        title: The title of the job, shown to the signers.
        document_title: The title of a document, in the order of the documents. The default is the name of the file.
        signer: Your own identifier of a signer.
        signer_number: The national identity number of a signer. Other users of this machine can see it: prefer --signer-numbers-file or --job.
        signer_numbers_file: A file with national identity numbers, one on each line; "-" reads standard input.
        exit_url: The URL for all three outcomes, to which the service redirects the signers.
        completion_url: The exit URL after signing.
        rejection_url: The exit URL after a rejection.
        error_url: The exit URL after a failure.
        description: A message to the signers.
        reference: Your own text for the job. Every response repeats it.
        signature_type: The type of signature that the signers must give.
        on_behalf_of: On whose behalf the signers sign.
        authentication_level: The security level of the e-ID that the signers must use.
        identifier_in_signed_documents: How the signed documents identify the signers.
        status_retrieval_method: How you get the status of the job: by the token in an exit URL (the default), or by polling.
    """

    job: _FileOrStdin | None = None
    title: str | None = None
    document_title: tuple[str, ...] = ()
    signer: tuple[str, ...] = ()
    signer_number: tuple[str, ...] = ()
    signer_numbers_file: _FileOrStdin | None = None
    exit_url: str | None = None
    completion_url: str | None = None
    rejection_url: str | None = None
    error_url: str | None = None
    description: str | None = None
    reference: str | None = None
    signature_type: SignatureType | None = None
    on_behalf_of: OnBehalfOf | None = None
    authentication_level: Literal["3", "4"] | None = None
    identifier_in_signed_documents: IdentifierInSignedDocuments | None = None
    status_retrieval_method: StatusRetrievalMethod | None = None


def job_of(documents: Sequence[Path], options: JobOptions) -> DirectJob:
    """The job that the options and the job file describe. An option overrides the key of the file.

    Raises:
        ConfigurationError: A part is missing, or the file can't be used. The message names it.
    """
    fields = {} if options.job is None else _from_file(options.job)
    if documents or options.document_title:
        fields["documents"] = _documents(documents, options.document_title)
    if signers := _signers(options):
        fields["signers"] = signers
    for name in ("title", "description", "reference"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    if options.authentication_level is not None:
        fields["authentication_level"] = AuthenticationLevel(options.authentication_level)
    for name in ("identifier_in_signed_documents", "status_retrieval_method"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    fields["exit_urls"] = _exit_urls(fields.get("exit_urls", {}), options)
    missing = [
        f"{key} ({option})"
        for key, option in (
            ("title", "--title"),
            ("documents", "the paths of files"),
            ("signers", "--signer"),
        )
        if not fields.get(key)
    ]
    if missing:
        raise ConfigurationError(
            f"The job has no {', no '.join(missing)}. Use the option, or the key of a job file (--job)."
        )
    for_all = {
        name: getattr(options, name)
        for name in ("signature_type", "on_behalf_of")
        if getattr(options, name) is not None
    }
    fields["signers"] = [replace(signer, **for_all) for signer in fields["signers"]]
    return DirectJob(**fields)


def _documents(paths: Sequence[Path], titles: Sequence[str]) -> list[Document]:
    if len(titles) > len(paths):
        raise ConfigurationError(
            f"There are more document titles ({len(titles)}) than documents ({len(paths)}). Name each document as "
            "an argument, and give one --document-title for each, in the same order."
        )
    return [
        _document(path, title=titles[index] if index < len(titles) else None)
        for index, path in enumerate(paths)
    ]


def _document(path: Path, *, title: str | None, kind: DocumentType | None = None) -> Document:
    is_text = path.suffix.lower() in _TEXT_FILES
    return Document(
        title=title or path.stem[:_LONGEST_TITLE],
        content=path,
        type=kind or (DocumentType.TEXT if is_text else DocumentType.PDF),
    )


def _signers(options: JobOptions) -> list[DirectSigner]:
    numbers = list(options.signer_number)
    if options.signer_numbers_file is not None:
        text = _text_of("--signer-numbers-file", options.signer_numbers_file)
        numbers += [line.strip() for line in text.splitlines() if line.strip()]
        if not numbers:
            raise ConfigurationError(
                f"--signer-numbers-file={options.signer_numbers_file}: the file is empty. Write one "
                "national identity number on each line."
            )
    return [
        *(DirectSigner(custom_identifier=identifier) for identifier in options.signer),
        *(DirectSigner(personal_identification_number=number) for number in numbers),
    ]


def _exit_urls(from_file: Mapping[str, str | None], options: JobOptions) -> ExitUrls:
    urls = {
        name: getattr(options, f"{name}_url") or options.exit_url or from_file.get(name)
        for name in _EXIT_URL_KEYS
    }
    missing = [name for name, url in urls.items() if not url]
    if missing:
        raise ConfigurationError(
            f"The job has no exit URL for: {', '.join(missing)}. Use --exit-url for all three, or "
            + ", ".join(f"--{name}-url" for name in missing)
            + ", or the key exit_urls of a job file (--job)."
        )
    return ExitUrls(**cast("dict[str, str]", urls))


# The job file


def _from_file(path: Path) -> dict[str, Any]:
    """The fields of a `DirectJob` in a file. The exit URLs are a mapping that may lack some."""
    name = "standard input" if path == Path("-") else str(path)
    content = _parsed(_text_of("--job", path), name)
    return _FileReader(name, path.parent).job(content)


def _text_of(option: str, path: Path) -> str:
    try:
        if path == Path("-"):
            with interruptible():
                return sys.stdin.read()
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{option}={path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"{option}={path}: the file is not text in UTF-8. Save it as UTF-8."
        ) from None


class _DuplicateKeyError(Exception):
    """A key occurs twice. The message has the key only if it is a key of a job file, which is no secret."""

    def __init__(self, keys: Sequence[str]) -> None:
        name = next((f" {key!r}" for key in _ALL_KEYS if keys.count(key) > 1), "")
        super().__init__(f"the key{name} occurs twice in the same place")


class _Loader(yaml.SafeLoader):
    """Reads each value as text or null. YAML itself would read some identity numbers as octal numbers."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the attribute of PyYAML's class
        first: [resolver for resolver in resolvers if resolver[0] == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the method of PyYAML's class
        keys = [str(key.value) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise _DuplicateKeyError(keys)
        return super().construct_mapping(node, deep=deep)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise _DuplicateKeyError([key for key, _ in pairs])
    return dict(pairs)


def _parsed(text: str, name: str) -> object:
    # The messages of both libraries quote the file, which has identity numbers.
    try:
        if text.lstrip().startswith("{"):
            return cast(
                "object",
                json.loads(
                    text, parse_int=str, parse_float=str, object_pairs_hook=_without_duplicates
                ),
            )
        return cast("object", yaml.load(text, Loader=_Loader))  # noqa: S506 - a subclass of SafeLoader
    except json.JSONDecodeError as error:
        message = f"not valid JSON: see line {error.lineno}, column {error.colno}"
    except _DuplicateKeyError as error:
        message = str(error)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f": see line {mark.line + 1}, column {mark.column + 1}"
        message = f"not valid YAML{place}"
    except yaml.YAMLError:
        message = "not valid YAML: it has a character that YAML does not allow"
    raise ConfigurationError(f"{name}: {message}.")


@dataclass(frozen=True, slots=True)
class _FileReader:
    """Reads the parts of a job from the content of a file.

    Attributes:
        name: The name of the file, for messages.
        directory: The directory from which relative paths are resolved.
    """

    name: str
    directory: Path

    def job(self, content: object) -> dict[str, Any]:
        given = self.mapping(content, "the job", _JOB_KEYS)
        fields: dict[str, Any] = {
            key: self.text(given[key], key)
            for key in ("title", "description", "reference")
            if key in given
        }
        for key, kind in (
            ("authentication_level", AuthenticationLevel),
            ("identifier_in_signed_documents", IdentifierInSignedDocuments),
            ("status_retrieval_method", StatusRetrievalMethod),
        ):
            if key in given:
                fields[key] = self.choice(kind, given[key], key)
        if "documents" in given:
            fields["documents"] = [
                self.document(item, f"documents[{index}]")
                for index, item in enumerate(self.items(given["documents"], "documents"))
            ]
        if "signers" in given:
            fields["signers"] = [
                self.signer(item, f"signers[{index}]")
                for index, item in enumerate(self.items(given["signers"], "signers"))
            ]
        if "exit_urls" in given:
            fields["exit_urls"] = self.exit_urls(given["exit_urls"])
        if "sender" in given:
            fields["sender"] = self.sender(given["sender"])
        return fields

    def document(self, item: object, place: str) -> Document:
        if isinstance(item, str):
            return _document(self.directory / item, title=None)
        given = self.mapping(item, place, _DOCUMENT_KEYS)
        if "file" not in given:
            raise self.error(place, "the key `file` is missing. Set it to the path of the document")
        return _document(
            self.directory / self.text(given["file"], f"{place}.file"),
            title=self.text(given["title"], f"{place}.title") if "title" in given else None,
            kind=self.choice(DocumentType, given["type"], f"{place}.type")
            if "type" in given
            else None,
        )

    def signer(self, item: object, place: str) -> DirectSigner:
        given = self.mapping(item, place, _SIGNER_KEYS)
        identifiers = {
            key: self.text(given[key], f"{place}.{key}")
            for key in ("personal_identification_number", "custom_identifier")
            if key in given
        }
        return DirectSigner(
            **identifiers,
            signature_type=self.choice(
                SignatureType, given["signature_type"], f"{place}.signature_type"
            )
            if "signature_type" in given
            else None,
            on_behalf_of=self.choice(OnBehalfOf, given["on_behalf_of"], f"{place}.on_behalf_of")
            if "on_behalf_of" in given
            else None,
        )

    def exit_urls(self, value: object) -> dict[str, str]:
        if isinstance(value, str):
            return dict.fromkeys(_EXIT_URL_KEYS, value)
        given = self.mapping(value, "exit_urls", _EXIT_URL_KEYS)
        return {key: self.text(url, f"exit_urls.{key}") for key, url in given.items()}

    def sender(self, value: object) -> Sender:
        given = self.mapping(value, "sender", _SENDER_KEYS)
        if "organization_number" not in given:
            raise self.error("sender", "the key `organization_number` is missing")
        return Sender(**{key: self.text(text, f"sender.{key}") for key, text in given.items()})

    def mapping(self, value: object, place: str, known: Sequence[str]) -> dict[str, object]:
        """The keys that have a value. An unknown key is an error."""
        if not isinstance(value, dict):
            raise self.error(place, f"must have keys and values. Its keys are {', '.join(known)}")
        given = cast("dict[object, object]", value)
        for key in given:
            if key not in known:
                nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
                shown = re.sub("[0-9]{11}", "(hidden)", str(key))  # an identity number
                raise self.error(
                    place, f"unknown key {shown!r}. The nearest known key is {nearest[0]!r}"
                )
        return {str(key): item for key, item in given.items() if item is not None}

    def items(self, value: object, place: str) -> list[object]:
        if not isinstance(value, list):
            raise self.error(place, "must be a list")
        return cast("list[object]", value)

    def text(self, value: object, place: str) -> str:
        if not isinstance(value, str):
            raise self.error(place, "must be text")
        return value

    def choice(self, kind: type[Choice], value: object, place: str) -> Choice:
        """The member of an enum by its name or its value, whatever the case and the separators.

        A number is its value: `AuthenticationLevel.FOUR` is written as 4.
        """
        text = self.text(value, place).upper().replace("-", "_")
        for member in kind:
            if text in (member.name, member.value.upper().replace("-", "_")):
                return member
        names = ", ".join(
            member.value if member.value.isdigit() else member.name.lower().replace("_", "-")
            for member in kind
        )
        raise self.error(place, f"must be one of: {names}")

    def error(self, place: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}: {place}: {problem}.")
