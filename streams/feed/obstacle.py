"""What is in the way of a connection, in words: whose certificate, which login, and the next step.

Never shows what stands in an address, a file or an error that may quote one.
"""

import ssl
from typing import Final, NamedTuple

from streams.variables import PREFIX

_EXPIRED, _NOT_YET = 10, 9  # of X509_V_ERR_…
_OTHER_NAME: Final = frozenset({62, 63, 64})  # host, mail address, IP address
_URL: Final = PREFIX + "REDIS_URL"
_REDIS_SAID: Final = {
    "AuthenticationError": f"it refused the user or the password: correct them in {_URL}",
    "AuthenticationWrongNumberOfArgsError": f"it refused the user or the password: correct them in {_URL}",
    "NoPermissionError": "the user lacks a permission: allow it the commands and keys that the documentation names",
}


class Obstacle(NamedTuple):
    """What is in the way and the next step; `lasting` when trying again cannot help."""

    what: str
    step: str
    lasting: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.step}"


def untrusted(error: ssl.SSLCertVerificationError, whose: str, authority: str) -> Obstacle:
    """Say why a certificate was not believed; `authority` names the setting of whom we trust."""
    said = error.verify_message
    if error.verify_code in {_EXPIRED, _NOT_YET}:
        return Obstacle(f"the certificate of {whose} is out of its time ({said})", "renew it there")
    if error.verify_code in _OTHER_NAME:
        step = "connect by a name that stands in it, or have one issued for this name"
        return Obstacle(f"the certificate of {whose} is for another name ({said})", step)
    step = f"set {authority} to the file of the authority that signed it"
    return Obstacle(f"the certificate of {whose} is signed by nobody we trust ({said})", step)


def redis_said(error: BaseException) -> str:
    """Say what an error of Redis's client means; never what stood in the URL."""
    name = type(error).__name__
    for behind in (error, error.__cause__, error.__context__):
        if isinstance(behind, ssl.SSLCertVerificationError):
            return str(untrusted(behind, "Redis", f"ssl_ca_certs in {_URL}"))
        if isinstance(behind, ssl.SSLError):
            reason = behind.reason or name
            return f"TLS with Redis fails ({reason}): is this its TLS port, and does {_URL} show what it asks for?"
        if isinstance(behind, FileNotFoundError):
            return f"a file that {_URL} names is missing: correct its path"
        if isinstance(behind, ConnectionResetError):
            return f"it closed the connection ({name}): does it want TLS (rediss://)?"
    return _REDIS_SAID.get(name, f"no answer ({name})")
