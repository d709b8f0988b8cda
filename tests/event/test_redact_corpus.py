"""How much of what is secret is found, and how much that is not is taken for it: measured on labelled texts."""

import time
from collections import Counter

import pytest
from leaks import KINDS, VENDORS, harmless, leaks, parts, tokens_of

from streams.event.redact import redact

SEED = 20_251_121
EACH = 2_000
RECALL_MIN = 0.99
FALSE_MAX = 0.01

# Written by hand: what people's programs say that looks like a secret and is none.
LOOKS_ALIKE = [
    "card declined: 4111 1111 1111 1112",
    "the first 4 of 16 digits are 4111",
    "ISBN 978-3-16-148410-0",
    "EAN 4006381333931x",
    "invoice 2025-0042-1234-5678-A",
    "order 123-4567890-1234567",
    "SKU 987-65-432",
    "2025-11-21",
    "21/11/2025 11:41:00",
    "1-800-FLOWERS",
    "call 911",
    "room 415-2671",
    "lines 100-200-3000",
    "chapter 12.3.4567",
    "IPv6 2001:db8::8a2e:370:7334",
    "00:1A:2B:3C:4D:5E",
    "DE 2024 revenue grew",
    "GB12 was the flight",
    "XK 9000 model",
    "DE00 0000 0000 0000 0000 00",
    "foo@bar",
    "@property",
    "git@github",
    "ssh user@host ls",
    "a @ b.c",
    "50% off @ 3.50 each",
    "the password is required",
    "password:",
    "forgot your password?",
    "enter token",
    "token count: 4096",
    "token: 4096",
    "max_tokens=1024",
    "tokens=123456789",
    "token_type: bearer",
    "bearer of bad news",
    "authorization failed",
    "secret santa",
    "the key is to listen",
    "primary key: id",
    "key=value",
    "sort_key=price",
    "keyword: retrieval",
    "api_key missing",
    "apikey: ",
    "sk-learn",
    "sk-SK locale of Slovakia",
    "risk-adjusted-return-of-the-fund",
    "task-force-one-hundred-and-two",
    "disk_usage_percent_over_90",
    "ghp_",
    "hf_hub_download",
    "npm_config_registry",
    "xoxo-hugs-and-kisses",
    "asiapacific-southeast-region",
    "AKIA",
    "AIzawa",
    "eyJ",
    "pypi-mirror",
    "tvly",
    "dapi5",
    "lin_api_docs",
    "pcsk_proprotein",
    "xai-explainability",
    "whsec_",
    "hvs.",
    "dp.pt.",
    "gsk_pharma",
    "r8_core",
    "-----BEGIN CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----",
    "https://hooks.slack.com/services/",
    "https://example.com:8443/a@b",
    "redis://localhost:6379/0",
    "postgres://db.internal:5432/app",
    "1e10 4.111e15",
    "0.4111111111111111",
    "-4111111111111111e-3",
    "v4111111111111111",
    "41111111111111111111111",
    "1111111111111111",
    "9999 9999 9999 9999",
    "1234 5678 9012 3456",
    "+1",
    "+12",
    "C++17 and +100 points",
    "a+1=2",
    "phase 555-1234",
    "(415) is an area code",
    "f(415) 555",
    "123456789",
    "12345678901234567890",
    "000-00-0000",
    "12-345-6789",
    "123-456-789",
    "shpat_example",
    "glpat-",
    "SG.",
    "12345:AAPL",
    "1234567890:AAPL stock",
    "lsv2_pt_",
    "nvapi-docs",
    "ntn_page",
]


@pytest.mark.parametrize("kind", KINDS)
def test_nearly_all_of_a_kind_is_found_wherever_it_stands(kind: str) -> None:
    texts = [leak for leak in leaks(SEED, EACH) if leak.kind == kind]
    missed = [leak.text for leak in texts if any(part in redact(leak.text).text for part in parts(leak))]

    assert EACH == len(texts)
    assert len(missed) <= EACH * (1 - RECALL_MIN), missed[:5]


@pytest.mark.parametrize("vendor", VENDORS)
def test_each_vendors_tokens_are_found(vendor: str) -> None:
    texts = list(tokens_of(SEED, vendor, 200))
    missed = [leak.text for leak in texts if any(part in redact(leak.text).text for part in parts(leak))]

    assert len(missed) <= len(texts) * (1 - RECALL_MIN), missed[:5]


def test_hardly_anything_else_is_taken_for_a_secret() -> None:
    texts = [*harmless(SEED, 20_000), *LOOKS_ALIKE]
    hits = Counter(name for text in texts for name in redact(text).counts)

    assert sum(hits.values()) <= len(texts) * FALSE_MAX, hits


def test_of_what_looks_alike_by_design_nothing_is_taken() -> None:
    taken = [(text, redact(text).text) for text in LOOKS_ALIKE if redact(text).counts]

    assert not taken


@pytest.mark.parametrize(
    "unit",
    ["gsk_", "gsk_a1", "xai-", "pplx-a", "r8_", "nvapi-", "tvly-a-", "pcsk_a_", "lsv2_pt_", "lin_api_", "ntn_a",
     "dapi", "dapia1", "shpat_", "whsec_", "whsec_a=", "hvs.", "hvs.a", "dp.pt.", "dp.pt.a.", "1234567890:AA",
     ":AA1234567890", "hooks.slack.com/services/T", "hooks.slack.com/services/TAAAAAAAA/B", "0123456789:"],
)  # fmt: skip
def test_texts_four_times_as_long_take_no_more_than_linear_time(unit: str) -> None:
    """Processor time, against itself: quadratic would be sixteenfold. Short ones are measured as a lower bound."""

    def took_s(chars: int) -> float:
        text = (unit * chars)[:chars]
        began_s = time.thread_time()
        redact(text)
        return time.thread_time() - began_s

    small_s = max(min(took_s(16_384) for _ in range(3)), 0.002)
    assert min(took_s(65_536) for _ in range(3)) < 10 * small_s
