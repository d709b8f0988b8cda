"""Every error of ours, and what each one means for the process.

AgentStreamsError
├── ConfigError          what a person set is wrong; nothing was started            exit 78 (EX_CONFIG)
├── StateRefused         state and log do not fit together; a person must decide    exit 78
├── InvariantBroken      a gap, a fence, a bug: end before anything is committed    exit 75 or 76
│   ├── Fenced           another worker owns the partition now                      exit 75 (EX_TEMPFAIL: restart me)
│   └── SequenceGap      an upstream record is missing                              exit 76 (EX_PROTOCOL)
└── EdgeError            the outside failed; `retryable` says whether to go on      exit 69 (EX_UNAVAILABLE)

Bad input is no error: it is the value `streams.event.codec.Rejected`.
"""

from typing import ClassVar


class AgentStreamsError(Exception):
    """The base of all; `exit_code` is what the process ends with when nothing catches it."""

    exit_code: ClassVar[int] = 70


class ConfigError(AgentStreamsError):
    """A setting, rule or argument is wrong; the message lists every fault and its next step."""

    exit_code = 78


class StateRefused(AgentStreamsError):
    """The stored state does not fit the log, the topics or this version; nothing was changed."""

    exit_code = 78


class InvariantBroken(AgentStreamsError):
    """Something that must hold does not; the process ends without committing."""

    exit_code = 76


class Fenced(InvariantBroken):
    """Another process took the partition over; a restart joins the group again."""

    exit_code = 75


class SequenceGap(InvariantBroken):
    """A record of the stage before is missing; going on would lose what it carried."""


class EdgeError(AgentStreamsError):
    """The broker, Redis or another outside part failed; `retryable` says whether trying again can help."""

    exit_code = 69

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable
