"""Which settings are given, and by which option or variable. Reads single settings where no client is needed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from posten_signering import Environment, Secret
from posten_signering._cli.masking import masked
from posten_signering._cli.options import (
    AS_TYPED,
    PROMPT,
    ServiceOptions,
    asked,
    at_terminal,
)
from posten_signering.errors import ConfigurationError

PREFIX = "POSTEN_SIGNERING_"

_INSTALLATIONS = {
    "production": Environment.PRODUCTION,
    "staging": Environment.STAGING,
    "difitest": Environment.DIFITEST,
}
# Only these values are printed. Each of the others may be a secret, or be one by mistake.
_PLAIN = {"environment", "organization_number", "polling_queue"}
_PATHS = {"certificate", "certificate_password_file", "trust_anchors", "proxy_file"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that an option or a variable gives.

    Attributes:
        name: The name of the setting, such as "certificate".
        source: The option or the variable, such as "--certificate".
        value: The value, which may be secret.
    """

    name: str
    source: str
    value: Secret[str] = field(repr=False)

    @property
    def shown(self) -> str:
        """The value if it is not secret, or a remark in its place."""
        is_path = self.name in _PATHS and os.access(self.value.reveal(), os.F_OK)
        return masked(self.value.reveal()) if is_path or self.name in _PLAIN else "set"


def given(
    options: ServiceOptions, environ: Mapping[str, str] | None = None
) -> Mapping[str, Setting]:
    """The settings that the options and the variables give, by name. An option replaces a variable."""
    variables = os.environ if environ is None else environ
    settings = {
        name: Setting(name=name, source=variable, value=Secret(variables[variable]))
        for variable in sorted(variables)
        if variable.startswith(PREFIX) and variables[variable].strip()
        for name in [variable.removeprefix(PREFIX).lower()]
    }
    for option in fields(options):
        value = getattr(options, option.name)
        if value is None:
            continue
        # A password or a proxy in a file replaces one in a variable.
        settings.pop(option.name.removesuffix("_file"), None)
        if option.name == "environment":  # it says where the service is
            settings.pop("service_root", None)
        settings[option.name] = Setting(
            name=option.name,
            source=f"--{option.name.replace('_', '-')}",
            value=Secret(str(value)),
        )
    return settings


def installation(settings: Mapping[str, Setting]) -> Environment | None:
    """The installation of the service that the settings name; None if they name a different service."""
    if "service_root" in settings:
        root = settings["service_root"].value.reveal().strip().lower()
        return next(
            (known for known in _INSTALLATIONS.values() if known.service_root == root), None
        )
    if "environment" not in settings:
        return Environment.PRODUCTION
    return _INSTALLATIONS.get(settings["environment"].value.reveal().strip().lower())


def known_installation(settings: Mapping[str, Setting]) -> Environment:
    """The installation of the service that the settings name.

    Raises:
        ConfigurationError: The settings name a different service, for which no fingerprints are known.
    """
    environment = installation(settings)
    if environment is None:
        source = settings.get("service_root", settings.get("environment"))
        raise ConfigurationError(
            f"{'' if source is None else source.source} names a service whose trust anchors are not known. "
            f"Give --environment as one of {', '.join(_INSTALLATIONS)}, without a service root."
        )
    return environment


def password(settings: Mapping[str, Setting], *, ask_for: Path) -> Secret[str | None]:
    """The password of the enterprise certificate's file; None if none is given.

    Args:
        settings: The settings that are given.
        ask_for: The file whose password is asked for in a terminal if no setting gives one.

    Raises:
        ConfigurationError: The file with the password can't be read.
    """
    file, direct = settings.get("certificate_password_file"), settings.get("certificate_password")
    if file is not None:
        return _content(file)
    if direct is not None:
        return direct.value
    if at_terminal():
        return asked(f"Password of {ask_for}: ")
    return Secret(None)


def password_source(settings: Mapping[str, Setting]) -> str:
    """What gave the password: an option, a variable, or the user at a prompt."""
    setting = settings.get("certificate_password_file") or settings.get("certificate_password")
    return AS_TYPED if setting is None else setting.source


def typed_password(settings: Mapping[str, Setting]) -> Secret[str] | None:
    """The password that a user in a terminal types for the certificate; None if it is not needed."""
    needed = "certificate" in settings and not any(
        name in settings for name in ("certificate_password", "certificate_password_file")
    )
    return asked(PROMPT) if needed and at_terminal() else None


def proxy(settings: Mapping[str, Setting]) -> Secret[str | None]:
    """The URL of the proxy; None if none is given.

    Raises:
        ConfigurationError: The file with the URL can't be read.
    """
    file, direct = settings.get("proxy_file"), settings.get("proxy")
    if file is not None:
        return Secret((_content(file).reveal() or "").strip() or None)
    return Secret(None) if direct is None else Secret(direct.value.reveal().strip())


def _content(file: Setting) -> Secret[str | None]:
    """The text of a file, without the line break at its end, which many programs write."""
    try:
        content = Secret(Path(file.value.reveal()).read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError(
            f"The file of {file.source} can't be read. Check the path and its permissions."
        ) from None
    return Secret(content.reveal().decode(errors="replace").removesuffix("\n").removesuffix("\r"))
