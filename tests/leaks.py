"""Texts with and without secrets in them, made by a generator that shares nothing with what looks for them.

Formats are those that issuers publish; every number is made up, and so are the people.
"""

import random
import string
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple


class Leak(NamedTuple):
    """One text, what is secret in it, and of which kind it is."""

    kind: str
    text: str
    secret: str


_SAID: Final = (
    "the tool answered after a while and we went on with what was left of the plan because nobody had asked for more "
    "customer order shipment invoice retry queue timeout session agent model answer step result value error warning"
)
_WORDS: Final = _SAID.split()
_FIRST: Final = ("ana", "bob", "chen", "dora", "emre", "fatima", "georg", "hana", "ivan", "jose")
_LAST: Final = ("smith", "o.neil", "garcia", "mueller", "tanaka", "singh", "silva", "novak", "kim", "larsen")
_DOMAINS: Final = ("example.com", "mail.example.org", "corp.example.co.uk", "example.io", "sub.dept.example.museum")
_LETTERS: Final = string.ascii_letters
_ALNUM: Final = string.ascii_letters + string.digits
_UPPER: Final = string.ascii_uppercase + string.digits
_HEX: Final = "0123456789abcdef"


def _from(rng: random.Random, letters: str, count: int) -> str:
    """Return random letters of which one is a digit, as practically every random token has one."""
    made = [rng.choice(letters) for _ in range(count)]
    made[rng.randrange(count)] = rng.choice("23456789")
    return "".join(made)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def email(rng: random.Random) -> str:
    local = rng.choice(_FIRST) + rng.choice(("", ".", "_", "+", "-")) + rng.choice(_LAST)
    made = f"{local}{rng.choice(('', _digits(rng, 2)))}@{rng.choice(_DOMAINS)}"
    return made.upper() if rng.random() < 0.1 else made


def _with_check_digit(body: str) -> str:
    """Append the digit that ISO/IEC 7812 asks for, reckoned by the table of its annex: doubled digits, added up."""
    doubled = {digit: sum(divmod(2 * digit, 10)) for digit in range(10)}
    total = 0
    for place, character in enumerate(reversed(body)):
        total += doubled[int(character)] if place % 2 == 0 else int(character)
    return body + str(-total % 10)


_CARDS: Final = (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("6011", 16),
                 ("65", 16), ("3528", 16), ("36", 14), ("4", 13))  # fmt: skip


def card(rng: random.Random) -> str:
    prefix, length = rng.choice(_CARDS)
    number = _with_check_digit(prefix + _digits(rng, length - len(prefix) - 1))
    between = rng.choice(("", " ", "-"))
    if length == 16:
        return between.join(number[at : at + 4] for at in range(0, 16, 4))
    return between.join((number[:4], number[4:10], number[10:])) if length == 15 else number


def phone(rng: random.Random) -> str:
    area, office, line = rng.randint(201, 989), rng.randint(200, 999), _digits(rng, 4)
    ways: tuple[Callable[[], str], ...] = (
        lambda: f"({area}) {office}-{line}",
        lambda: f"{area}-{office}-{line}",
        lambda: f"{area}.{office}.{line}",
        lambda: f"+1 {area} {office} {line}",
        lambda: f"+1-{area}-{office}-{line}",
        lambda: f"1-{area}-{office}-{line}",
        lambda: f"+44 20 {_digits(rng, 4)} {_digits(rng, 4)}",
        lambda: f"+49 {rng.randint(151, 179)} {_digits(rng, 7)}",
        lambda: f"+33{rng.randint(1, 9)}{_digits(rng, 8)}",
        lambda: f"+91 {rng.randint(70000, 99999)} {_digits(rng, 5)}",
        lambda: f"0049 {rng.randint(151, 179)} {_digits(rng, 7)}",
        lambda: f"+81-3-{_digits(rng, 4)}-{_digits(rng, 4)}",
    )
    return rng.choice(ways)()


def ssn(rng: random.Random) -> str:
    area = rng.choice([n for n in (rng.randint(1, 899), rng.randint(1, 665)) if n != 666])
    return f"{area:03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"


# Country, length, and how many letters follow the check digits (ISO 13616's registry, some of it).
_IBANS: Final = (
    ("DE", 22, 0), ("GB", 22, 4), ("FR", 27, 0), ("NL", 18, 4), ("ES", 24, 0), ("IT", 27, 1), ("CH", 21, 0),
    ("NO", 15, 0), ("PL", 28, 0), ("MT", 31, 4),
)  # fmt: skip


def iban(rng: random.Random) -> str:
    country, length, letters = rng.choice(_IBANS)
    body = "".join(rng.choice(string.ascii_uppercase if at < letters else string.digits) for at in range(length - 4))
    remainder = 0
    for character in body + country + "00":
        value = str(ord(character) - 55) if character.isalpha() else character
        remainder = int(str(remainder) + value) % 97
    whole = f"{country}{98 - remainder:02}{body}"
    return " ".join(whole[at : at + 4] for at in range(0, length, 4)) if rng.random() < 0.5 else whole


_TOKENS: Final[dict[str, Callable[[random.Random], str]]] = {
    "openai": lambda rng: "sk-" + _from(rng, _ALNUM, 48),
    "openai project": lambda rng: "sk-proj-" + _from(rng, _ALNUM + "_-", 120),
    "anthropic": lambda rng: "sk-ant-api03-" + _from(rng, _ALNUM + "_-", 93) + "AA",
    "openrouter": lambda rng: "sk-or-v1-" + _from(rng, _HEX, 64),
    "groq": lambda rng: "gsk_" + _from(rng, _ALNUM, 52),
    "xai": lambda rng: "xai-" + _from(rng, _ALNUM, 80),
    "perplexity": lambda rng: "pplx-" + _from(rng, _ALNUM, 48),
    "replicate": lambda rng: "r8_" + _from(rng, _ALNUM, 37),
    "hugging face": lambda rng: "hf_" + _from(rng, _LETTERS, 34),
    "google": lambda rng: "AIza" + _from(rng, _ALNUM + "_-", 35),
    "google oauth": lambda rng: "ya29." + _from(rng, _ALNUM + "_-", 60),
    "github": lambda rng: "ghp_" + _from(rng, _ALNUM, 36),
    "github server": lambda rng: "ghs_" + _from(rng, _ALNUM, 36),
    "github fine": lambda rng: "github_pat_" + _from(rng, _ALNUM, 22) + "_" + _from(rng, _ALNUM, 59),
    "gitlab": lambda rng: "glpat-" + _from(rng, _ALNUM + "_-", 20),
    "aws": lambda rng: rng.choice(("AKIA", "ASIA")) + _from(rng, _UPPER, 16),
    "slack": lambda rng: f"xoxb-{_digits(rng, 12)}-{_digits(rng, 13)}-{_from(rng, _ALNUM, 24)}",
    "slack app": lambda rng: f"xapp-1-{_from(rng, _UPPER, 11)}-{_digits(rng, 13)}-{_from(rng, _HEX, 64)}",
    "slack hook": lambda rng: (
        f"https://hooks.slack.com/services/T{_from(rng, _UPPER, 10)}/B{_from(rng, _UPPER, 10)}/{_from(rng, _ALNUM, 24)}"
    ),
    "stripe": lambda rng: rng.choice(("sk_live_", "rk_live_", "sk_test_")) + _from(rng, _ALNUM, 24),
    "stripe hook": lambda rng: "whsec_" + _from(rng, _ALNUM, 32),
    "sendgrid": lambda rng: "SG." + _from(rng, _ALNUM + "_-", 22) + "." + _from(rng, _ALNUM + "_-", 43),
    "npm": lambda rng: "npm_" + _from(rng, _ALNUM, 36),
    "pypi": lambda rng: "pypi-AgEIcHlwaS5vcmc" + _from(rng, _ALNUM + "_-", 150),
    "digitalocean": lambda rng: "dop_v1_" + _from(rng, _HEX, 64),
    "nvidia": lambda rng: "nvapi-" + _from(rng, _ALNUM + "_-", 64),
    "telegram": lambda rng: f"{_digits(rng, 10)}:AA{_from(rng, _ALNUM + '_-', 33)}",
    "shopify": lambda rng: "shpat_" + _from(rng, _HEX, 32),
    "databricks": lambda rng: "dapi" + _from(rng, _HEX, 32),
    "linear": lambda rng: "lin_api_" + _from(rng, _ALNUM, 40),
    "notion": lambda rng: "ntn_" + _from(rng, _ALNUM, 46),
    "vault": lambda rng: "hvs." + _from(rng, _ALNUM + "_-", 90),
    "doppler": lambda rng: "dp.pt." + _from(rng, _ALNUM, 43),
    "langsmith": lambda rng: f"lsv2_pt_{_from(rng, _HEX, 32)}_{_from(rng, _HEX, 10)}",
    "langfuse": lambda rng: "sk-lf-" + "-".join(_from(rng, _HEX, n) for n in (8, 4, 4, 4, 12)),
    "tavily": lambda rng: "tvly-" + _from(rng, _ALNUM, 32),
    "pinecone": lambda rng: f"pcsk_{_from(rng, _ALNUM, 6)}_{_from(rng, _ALNUM, 63)}",
    "jwt": lambda rng: f"eyJ{_from(rng, _ALNUM, 33)}.eyJ{_from(rng, _ALNUM, 60)}.{_from(rng, _ALNUM + '_-', 43)}",
    "bearer": lambda rng: "Bearer " + _from(rng, _ALNUM, 40),
    "password": lambda rng: "password=" + _from(rng, _ALNUM, 12),
    "in a url": lambda rng: f"postgres://app:{_from(rng, _ALNUM, 16)}@db.example.com/x",
}


def token(rng: random.Random) -> str:
    return rng.choice(list(_TOKENS.values()))(rng)


KINDS: Final[dict[str, Callable[[random.Random], str]]] = {
    "email": email,
    "card": card,
    "phone": phone,
    "ssn": ssn,
    "iban": iban,
    "token": token,
}
VENDORS: Final = tuple(_TOKENS)
_AROUND: Final = (
    "{}",
    "({})",
    "'{}'",
    '"{}"',
    "<{}>",
    "{}.",
    "{},",
    "value: {}",
    '{{"note": "{}"}}',
    "\n{}\n",
    "a|{}|b",
)


def _between_words(rng: random.Random, secret: str) -> str:
    before = " ".join(rng.choices(_WORDS, k=rng.randint(0, 12)))
    after = " ".join(rng.choices(_WORDS, k=rng.randint(0, 12)))
    return f"{before} {rng.choice(_AROUND).format(secret)} {after}".strip()


def leaks(seed: int, each: int) -> Iterator[Leak]:
    """Yield so many texts of each kind."""
    rng = random.Random(seed)
    for kind, make in KINDS.items():
        for _ in range(each):
            secret = make(rng)
            yield Leak(kind, _between_words(rng, secret), secret)


def tokens_of(seed: int, vendor: str, count: int) -> Iterator[Leak]:
    """Yield texts with one vendor's tokens."""
    rng = random.Random(f"{seed} {vendor}")
    for _ in range(count):
        secret = _TOKENS[vendor](rng)
        yield Leak(vendor, _between_words(rng, secret), secret)


def parts(leak: Leak) -> tuple[str, ...]:
    """Return what must not be left of a secret: neither half of the part that is its own."""
    own = leak.secret
    for mark in ("Bearer ", "password=", "://app:"):
        own = own.partition(mark)[2].partition("@")[0] if mark in own else own
    if leak.kind == "token" or leak.kind in VENDORS:
        return (own[-12:],)
    return own[: len(own) // 2], own[len(own) // 2 :]


# ---- what must survive -----------------------------------------------------------------------------------------

_HARMLESS: Final[tuple[Callable[[random.Random], str], ...]] = (
    lambda rng: "-".join(_from(rng, _HEX, n) for n in (8, 4, 4, 4, 12)),
    lambda rng: _from(rng, _HEX, 40),
    lambda rng: _from(rng, _HEX, 64),
    lambda rng: "sha256:" + _from(rng, _HEX, 64),
    lambda rng: f"17{_digits(rng, 8)}",
    lambda rng: f"17{_digits(rng, 11)}",
    lambda rng: f"17{_digits(rng, 17)}",
    lambda rng: f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T11:{rng.randint(10, 59)}:07.{_digits(rng, 3)}Z",
    lambda rng: f"2025-11-{rng.randint(1, 28):02} 11:{rng.randint(10, 59)}:07,{_digits(rng, 3)} +0100",
    lambda rng: "call_" + _from(rng, _ALNUM, 24),
    lambda rng: "toolu_01" + _from(rng, _ALNUM, 22),
    lambda rng: "chatcmpl-" + _from(rng, _ALNUM, 29),
    lambda rng: "msg_01" + _from(rng, _ALNUM, 22),
    lambda rng: "req_" + _from(rng, _ALNUM, 20),
    lambda rng: f"{rng.randint(1, 255)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}:9092",
    lambda rng: f"version {rng.randint(0, 30)}.{rng.randint(0, 300)}.{rng.randint(0, 9999)}",
    lambda rng: f"input_tokens={rng.randint(1, 10**8)}, max_tokens: {rng.randint(1, 10**6)}",
    lambda rng: f"{rng.randint(1, 999):,},{rng.randint(100, 999)},{rng.randint(100, 999)} bytes",
    lambda rng: f"partition {rng.randint(0, 99)} offset {rng.randint(10**9, 10**13)}",
    lambda rng: f"took {rng.randint(1, 10**6)} ms, {rng.randint(0, 100)} % of {rng.randint(1, 10**6)}",
    lambda rng: f"order {_from(rng, _UPPER, 10)}",
    lambda rng: f"order-{_digits(rng, 16)}",
    lambda rng: f"https://example.com/items/{_digits(rng, 10)}?page={rng.randint(1, 99)}",
    lambda rng: f"gpt-4o-2024-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
    lambda rng: f"claude-3-5-sonnet-2024{rng.randint(10, 12)}{rng.randint(10, 28)}",
    lambda rng: f'File "/app/main.py", line {rng.randint(1, 9999)}, in run',
    lambda rng: f"HTTP {rng.choice((200, 404, 429, 500))} after {rng.random() * 9:.3f}s",
    lambda rng: f"temperature={rng.random():.2f} top_p={rng.random():.2f} seed={rng.randint(0, 2**31)}",
    lambda rng: f"[{', '.join(f'{rng.uniform(-1, 1):.6f}' for _ in range(6))}]",
    lambda rng: f"{rng.randint(-90, 90)}.{_digits(rng, 6)}, {rng.randint(-180, 180)}.{_digits(rng, 6)}",
    lambda rng: f"@{rng.choice(_FIRST)} and pkg@{rng.randint(0, 9)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
    lambda rng: f"0x{_from(rng, _HEX, 16)}",
    lambda rng: f"pod-{_from(rng, string.ascii_lowercase + string.digits, 10)}-{_from(rng, _HEX, 5)}",
    lambda rng: f"id IN ({rng.randint(1, 10**6)}, {rng.randint(1, 10**6)}, {rng.randint(1, 10**6)})",
)  # fmt: skip


def harmless(seed: int, count: int) -> Iterator[str]:
    """Yield texts of traces, logs and programs without anything to hide, but with much that looks like it."""
    rng = random.Random(seed)
    for _ in range(count):
        yield _between_words(rng, rng.choice(_HARMLESS)(rng))
