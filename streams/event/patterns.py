"""Which shapes are personal or secret, and how a real one is told from a number or word that looks alike.  Pure.

Never takes more than linear time: every repeat in every expression has an upper bound, and there is a cheap look for
each shape that tells whether its expression has to run at all.
Numbers need a checksum or an unmistakable shape, so that ids, hashes and timestamps survive.
"""

import re
from collections.abc import Callable
from importlib import import_module
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, TypeAlias

from streams.errors import ConfigError

# An expression from outside may repeat this often per match; nested repeats multiply.
REPEAT_MAX: Final = 4096
SOLID_CHARS: Final = 15
OWN_MAX: Final = 64
_KEY_CHARS_MAX: Final = 16_384  # a private key of 16,384 bits has 12,700
_DIGIT: Final = re.compile(r"\d")
_PARSER: Final[Any] = import_module("re._parser")  # the standard library has no other parser of expressions
_DONE: Final = re.compile(r"\[[a-z][a-z0-9_]{0,31}\]")

Span: TypeAlias = tuple[int, int]
Match: TypeAlias = re.Match[str]


class Pattern(NamedTuple):
    """One thing to find: `name` becomes the replacement, `find` tells which part of a match goes (None: keep it all).

    The expression runs only if the lower-case text holds one of `needles`, or eight digits when there are none.
    A `solid` match has no white space and SOLID_CHARS or more, so its needles are looked up in long words only.
    """

    name: str
    expression: re.Pattern[str]
    needles: tuple[str, ...] = ()
    find: Callable[[Match], Span | None] = re.Match.span
    solid: bool = False


def own_pattern(name: str, expression: str, *needles: str) -> Pattern:
    """Make a pattern of a user's expression; raises ConfigError when it may take more than linear time.

    Without `needles` (lower-case text that every match holds) the expression runs on every text.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
        raise ConfigError(f"redaction pattern {name!r}: expected a name of up to 32 of a-z, 0-9 and _")
    try:
        compiled = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"redaction pattern {name}: {error}") from error
    if compiled.match(""):
        raise ConfigError(f"redaction pattern {name}: it matches the empty text, so it would match everywhere")
    if (repeats := repeats_of(expression)) > REPEAT_MAX:
        raise ConfigError(
            f"redaction pattern {name}: a match may repeat {repeats} times, expected at most {REPEAT_MAX}: "
            "write {1,64} for + and *, and no repeat inside a repeat"
        )
    return Pattern(name, compiled, needles or ("",))


def own_patterns(text: str) -> tuple[Pattern, ...]:
    """Read a user's patterns, one per line: a name, white space, an expression; # begins a line that says nothing.

    Raises ConfigError with every fault.
    """
    found: list[Pattern] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        name, _, expression = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        try:
            found.append(own_pattern(name, expression.strip()))
        except ConfigError as error:
            faults.append(f"line {number}: {error}")
    if len(found) > OWN_MAX:
        faults.append(f"{len(found)} redaction patterns given, expected at most {OWN_MAX}: each is tried on every text")
    if faults:
        raise ConfigError("; ".join(faults))
    return tuple(found)


def repeats_of(expression: str) -> int:
    """Return how many steps the deepest nest of repeats may take; unbounded ones count as 2^32 or more."""
    return _repeats(_PARSER.parse(expression))


def _repeats(node: Any) -> int:
    """Walk a parsed expression: lists and tuples of operations, repeats as (operation, (least, most, body))."""
    deepest = 1
    for part in node:
        if isinstance(part, tuple) and len(part) == 2 and str(part[0]).endswith("_REPEAT"):
            _, most, body = part[1]
            deepest = max(deepest, int(most) * _repeats(body))
        elif isinstance(part, (tuple, list)) or type(part).__name__ == "SubPattern":
            deepest = max(deepest, _repeats(part))
    return deepest


# ---- which matches are real ------------------------------------------------------------------------------------

_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FO FI GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ XK LT LU MN",
        21: "HR LV LI CH", 22: "BH BG CR GE DE IE ME RS GB VA", 23: "TL GI IQ IL AE OM SO",
        24: "AD CZ MD PK RO SA SK ES SE TN VG DZ", 25: "AO LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MR MC SM",
        28: "AL AZ BY CY DO SV GT HU LB NI PL HN", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC",
        32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_CARD_PREFIX: Final = re.compile(r"4|5[1-5]|2(?:2[2-9]|[3-6]\d|7[01]|720)|3[47]|3[068]|35|6(?:011|4[4-9]|5|2)")
_CARD_LENGTHS: Final = {"3": (14, 15, 16), "4": (13, 16, 19)}
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Does the check digit at the end fit, as on every payment card?"""
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return total % 10 == 0


def _card(match: Match) -> Span | None:
    digits = re.sub(r"[ -]", "", match[0])
    lengths = _CARD_LENGTHS.get(digits[0], (16, 17, 18, 19))
    return match.span() if len(digits) in lengths and _CARD_PREFIX.match(digits) and luhn(digits) else None


def _iban(match: Match) -> Span | None:
    """Take as much of the match as the country's length says, and only if modulo 97 agrees."""
    length = _IBAN_LENGTHS.get(match[0][:2])
    end, seen = match.start(), 0
    for character in match[0]:
        if seen == length:
            break
        end += 1
        seen += character != " "
    if seen != length:
        return None
    account = match.string[match.start() : end].replace(" ", "")
    number = "".join(str(int(character, 36)) for character in account[4:] + account[:4])
    return (match.start(), end) if int(number) % 97 == 1 else None


def _ssn(match: Match) -> Span | None:
    area, group, serial = match[0].split("-")
    never = area in ("000", "666") or area >= "900" or group == "00" or serial == "0000"
    return None if never else match.span()


def _ip(match: Match) -> Span | None:
    try:
        ip_address(match[0])
    except ValueError:
        return None
    return match.span()


def _phone(match: Match) -> Span | None:
    """Without a plus it takes more digits to be no other number."""
    digits = sum(character.isdecimal() for character in match[0])
    return match.span() if digits >= (8 if match[0][0] == "+" else 10) else None


def _private_key(match: Match) -> Span | None:
    """Take everything to the END line, or to the end of the text when the key was cut."""
    limit = match.end() + _KEY_CHARS_MAX
    end = match.string.find("-----END", match.end(), limit)
    if end < 0:
        return match.start(), min(len(match.string), limit)
    close = match.string.find("-----", end + 8, end + 64)
    return match.start(), close + 5 if close > 0 else end + 8


def _last_group(match: Match) -> Span | None:
    """Take the value and leave what stands around it; never a replacement made before."""
    span = match.span(match.lastindex or 0)
    return None if _DONE.match(match.string, *span) else span


def _with_digit(match: Match) -> Span | None:
    """Tell a token from a long hyphenated word; the last group is what goes."""
    span = match.span(match.lastindex or 0)
    return span if _DIGIT.search(match.string, *span) else None


def _email(match: Match) -> Span | None:
    """Walk back from the @ to the beginning of the address."""
    text, at = match.string, match.start()
    start = at
    while start > 0 and at - start < _LOCAL_CHARS_MAX and (text[start - 1].isalnum() or text[start - 1] in "._+%-"):
        start -= 1
    return (start, match.end()) if start < at else None


def _keyed(match: Match) -> Span | None:
    """After `password=` anything goes; after `token=` only what is no count and no word. Never twice."""
    text, at = match.string, match.start()
    key = text[max(0, at - _KEY_WORD_CHARS) : at].rstrip(" \t\"'\\").lower().replace("-", "_")
    weak = key.endswith(_WEAK_KEYS)
    if not weak and not key.endswith(_STRONG_KEYS):
        return None
    start, end = match.span(match.lastindex or 0)
    value = text[start:end]
    if _DONE.match(value):
        return None
    if weak and (len(value) < 8 or value.isdecimal() or not _DIGIT.search(value)):
        return None
    return start, end


# ---- what is looked for, in this order -------------------------------------------------------------------------
# Looking back stands behind the first character of an expression: only then does `re` skip to where it can begin.

_LOCAL_CHARS_MAX: Final = 256
_KEY_WORD_CHARS: Final = 24
_STRONG_KEYS: Final = (
    "password", "passwd", "passphrase", "pwd", "secret", "secret_key", "secretkey", "api_key", "apikey", "access_key",
    "accesskey", "private_key", "privatekey", "account_key", "accountkey", "shared_key", "sharedkey", "signing_key",
)  # fmt: skip
_WEAK_KEYS: Final = ("token", "credential", "credentials", "authorization", "secret_id")
_VENDOR_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|glpat-[A-Za-z0-9_-]{20,255}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|xox[abeoprs]-\d[A-Za-z0-9-]{9,255}|xapp-[A-Za-z0-9-]{10,255}"
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,1024}|hf_[A-Za-z0-9]{30,64}|npm_[A-Za-z0-9]{36}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}|pypi-[A-Za-z0-9_-]{32,255}|dop_v1_[a-f0-9]{64}"
    r"|gsk_[A-Za-z0-9]{40,255}|xai-[A-Za-z0-9]{60,255}|pplx-[A-Za-z0-9]{40,255}|r8_[A-Za-z0-9]{37}"
    r"|nvapi-[A-Za-z0-9_-]{60,255}|tvly-[A-Za-z0-9-]{20,255}|pcsk_[A-Za-z0-9_]{40,255}"
    r"|lsv2_[ps][tk]_[a-f0-9]{32}_[a-f0-9]{10}|lin_api_[A-Za-z0-9]{40}|ntn_[A-Za-z0-9]{40,64}|dapi[a-f0-9]{32}"
    r"|shp(?:at|ca|pa|ss)_[a-f0-9]{32}|whsec_[A-Za-z0-9+/]{24,64}={0,2}|hv[sb]\.[A-Za-z0-9_-]{24,255}"
    r"|dp\.(?:pt|st|ct|sa)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}|\d{8,10}:AA[A-Za-z0-9_-]{33}"
    r"|hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,32})"
)
_VENDOR_NEEDLES: Final = (
    "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "akia", "asia", "xox", "xapp-", "aiza", "ya29.",
    "hf_", "npm_", "sg.", "pypi-", "dop_v1_", "gsk_", "xai-", "pplx-", "r8_", "nvapi-", "tvly-", "pcsk_", "lsv2_",
    "lin_api_", "ntn_", "dapi", "shpat_", "shpca_", "shppa_", "shpss_", "whsec_", "hvs.", "hvb.", "dp.", ":aa",
    "hooks.slack.com/",
)  # fmt: skip

PATTERNS: Final = (
    Pattern(
        "private_key",
        re.compile(r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----"),
        ("private key-----",),
        _private_key,
    ),
    Pattern("secret", re.compile(r"://[^\s/:@]{0,128}:([^\s/@]{1,256})@"), ("@",), _last_group),
    Pattern(
        "jwt",
        re.compile(r"eyJ(?<![\w-]...)[\w-]{8,4096}\.[\w-]{8,8192}(?:\.[\w-]{0,4096})?"),
        ("eyj",),
        solid=True,
    ),
    Pattern("api_key", _VENDOR_TOKEN, _VENDOR_NEEDLES, solid=True),
    Pattern(
        "api_key",
        re.compile(r"[spr](?<![\w-].)k[-_][A-Za-z0-9_-]{16,255}"),
        ("sk-", "sk_", "pk_", "rk_"),
        _with_digit,
        solid=True,
    ),
    Pattern("secret", re.compile(r"(?i)bearer\s{1,4}([\w.~+/-]{8,4096}={0,2})"), ("bearer",), _with_digit),
    Pattern(
        "secret",
        re.compile(
            r"(?i)authorization(?:\\?[\"'])?\s{0,4}[:=]\s{0,4}(?:\\?[\"'])?(?:basic|digest|token|apikey)\s{1,4}"
            r"([^\s\"'\\,]{4,1024})"
        ),
        ("authorization",),
        _last_group,
    ),
    Pattern(
        "secret",
        re.compile(r"[:=]\s{0,4}(?:\\?[\"']([^\"'\\\n]{3,512})|([^\s\"'\\,;&<>{}\[\]()]{3,512}))"),
        ("passw", "passphrase", "pwd", "secret", "key", "token", "credential", "authorization"),
        _keyed,
    ),
    Pattern("email", re.compile(r"@[A-Za-z0-9.-]{1,190}\.[A-Za-z]{2,24}(?![A-Za-z0-9])"), ("@",), _email),
    Pattern("iban", re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z]\d\d(?: ?[A-Z0-9]){11,30}"), (), _iban),
    Pattern(
        "card",
        re.compile(
            r"\d(?<![\w.-].)(?:\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5}|\d{12,18})"
            r"(?![\w-])(?!\.\d)"
        ),
        (),
        _card,
    ),
    Pattern("ssn", re.compile(r"\d(?<![\w.-].)\d\d-\d\d-\d{4}(?![\w-])(?!\.\d)"), (), _ssn),
    Pattern(
        "phone",
        re.compile(
            r"[+(\d](?<![\w+.-].)(?:(?<=\+)[1-9](?:[ ().-]{0,2}\d){7,14}"
            r"|(?<=0)(?<!\d[ /-].)0[1-9]\d{0,2}(?:[ /-]\d{2,12}){1,4}"
            r"|(?:(?<=1)[ .-](?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])|(?<=\()[2-9]\d\d\) ?|(?<=[2-9])\d\d[ .-])"
            r"[2-9]\d\d[ .-]\d{4})(?![\w-])(?!\.\d)"
        ),
        (),
        _phone,
    ),
)
IP: Final = Pattern(
    "ip",
    re.compile(
        r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,35}(?:\d{1,3}\.){0,3}\d{0,3})"
        r"(?![\w:])"
    ),
    (".", ":"),
    _ip,
)
