"""What is in the image, for programs that look for known faults: `python tests/sbom.py > sbom.cdx.json`.

CycloneDX 1.6, made of the lock that the image is installed from; the same lock makes the same bytes.
"""

import hashlib
import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from packaging.markers import Marker

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = ROOT / "requirements-runtime.lock"
_PIN: Final = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+))?", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# What the image is: other platforms need other packages.
IMAGE: Final = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "python_version": "3.11",
    "python_full_version": "3.11.0",
}


def pinned(lock: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, version and digests of everything that the image installs."""
    places = [*_PIN.finditer(lock)]
    for at, place in enumerate(places):
        name, version, marker = place.groups()
        if marker is not None and not Marker(marker.strip()).evaluate(IMAGE):
            continue
        end = places[at + 1].start() if at + 1 < len(places) else len(lock)
        yield name, version, _HASH.findall(lock, place.end(), end)


def bill(lock: str) -> dict[str, Any]:
    """Return the bill of materials of one lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    components = [_component(*each) for each in pinned(lock)]
    digest = hashlib.sha256(lock.encode()).hexdigest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + digest)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [each["bom-ref"] for each in components]}],
    }


def _component(name: str, version: str, digests: list[str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        # One digest per file that may be installed: a wheel per platform, and the source.
        "externalReferences": [
            {"type": "distribution", "url": f"{purl}#{digest}", "hashes": [{"alg": "SHA-256", "content": digest}]}
            for digest in digests
        ],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bill(LOCK.read_text("utf-8")), indent=1) + "\n")
