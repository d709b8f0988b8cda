"""What can be set about who may read what a process shows over HTTP: certificates, logins, connections.

Never read by itself: `streams.settings` makes it a part of all settings.
"""

from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from streams.rule.faults import Faults
from streams.variables import PREFIX


class WebSettings(BaseSettings):
    """The HTTP side of every role: exporter, notify, a worker's health, the receiver of OTLP."""

    web_tls_certfile: Path | None = Field(
        default=None, description="Certificate (PEM) that HTTP is served with. Without it: no TLS."
    )
    web_tls_keyfile: Path | None = Field(default=None, description="The key of that certificate.")
    web_tls_clients_cafile: Path | None = Field(
        default=None,
        description="Authorities (PEM), one of which must have signed the certificate of whoever connects. Without it "
        "no certificate is asked for. Probes need one too.",
    )
    web_username: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^[^:\s]+$",
        description="Who may read pages, by HTTP's basic login. Probes and pushed OTLP are not asked.",
    )
    web_password: SecretStr | None = Field(default=None, description="The password that goes with that name.")
    web_token: SecretStr | None = Field(
        default=None,
        description="Who shows this may read pages: `Authorization: Bearer …`; also beside a login by name.",
    )
    web_connections: int = Field(
        default=128, ge=1, le=100_000, description="Connections of readers at once; further ones are refused."
    )


def check_web(settings: Any, faults: Faults) -> None:
    """Note what is only half set."""
    for first, second in (
        ("web_tls_certfile", "web_tls_keyfile"),
        ("web_username", "web_password"),
    ):
        for one, other in ((first, second), (second, first)):
            if getattr(settings, one) and not getattr(settings, other):
                missing = _variable(other)
                faults.note(missing, None, f"a value, as {_variable(one)} is set", f"set {missing}, or leave both out")
    if settings.web_tls_clients_cafile and not settings.web_tls_certfile:
        needed = _variable("web_tls_certfile")
        what = f"nothing: without {needed} there is no TLS to ask for certificates in"
        given = str(settings.web_tls_clients_cafile)
        faults.note(_variable("web_tls_clients_cafile"), given, what, f"set {needed}, or leave it out")


def _variable(field: str) -> str:
    return PREFIX + field.upper()


WEB_FIELDS: Final = (
    "web_tls_certfile",
    "web_tls_keyfile",
    "web_tls_clients_cafile",
    "web_username",
    "web_password",
)
