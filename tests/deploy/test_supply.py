"""What comes with us: a bill of materials of the image, and no known fault in it."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name
from sbom import LOCK, bill, pinned


def test_the_bill_is_one_and_names_everything_that_is_installed() -> None:
    text = LOCK.read_text("utf-8")
    made = bill(text)
    names = {each["name"]: each["version"] for each in made["components"]}

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    assert made == bill(text)
    assert {"aiokafka", "faust-streaming", "msgspec", "redis", "aiohttp"} <= names.keys()
    assert "colorama" not in names, "Windows alone needs it"
    assert all(digests for _, _, digests in pinned(text))
    for name in ("aiokafka", "faust-streaming"):
        assert version(canonicalize_name(name)) == names[name]


@pytest.mark.long
def test_nothing_in_the_image_has_a_known_fault() -> None:
    """Asks the package index what it knows; where none answers there is nothing to be said, and that is said."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--require-hashes", "--disable-pip"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off", "--format", "json"], capture_output=True, text=True, check=False
    )
    looked_at = json.loads(done.stdout)["dependencies"]
    if all("skip_reason" in each for each in looked_at):
        pytest.skip("the package index here knows nothing of faults: run it where the public one answers")

    assert not [each["name"] for each in looked_at if "skip_reason" in each]
    assert not {each["name"]: each["vulns"] for each in looked_at if each["vulns"]}
