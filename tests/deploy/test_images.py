"""Every image that a build or a deployment names is one exact version, and the registry knows it."""

import re
import shutil
import subprocess
from typing import Final

import pytest
import yaml
from deployed import ROOT

from streams import __version__

OURS: Final = f"agent-streams:{__version__}"
TAGGED: Final = re.compile(r"^[a-z0-9][a-z0-9./_-]*:v?\d+\.\d+\.\d+(?:-[a-z0-9.-]+)?(?:@sha256:[0-9a-f]{64})?$")
DIGEST: Final = re.compile(r"^[a-z0-9][a-z0-9./_-]*(?::[\w.-]+)?@sha256:[0-9a-f]{64}$")
# What `docker manifest inspect` says of a tag that is not there; anything else says nothing of the tag.
UNKNOWN: Final = re.compile(r"no such manifest|manifest unknown|not found: manifest", re.IGNORECASE)
ASKED_S: Final = 30


def images() -> dict[str, set[str]]:
    """Return every image that is named, and the files that name it."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "docker-compose.yml", *sorted((ROOT / "k8s").rglob("*.yaml"))):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            for image in _images_in(document):
                found.setdefault(image, set()).add(file.name)
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("FROM "):
            found.setdefault(line.split()[1], set()).add("Dockerfile")
    return found


def _images_in(value: object) -> set[str]:
    if isinstance(value, list):
        return {image for each in value for image in _images_in(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["image"]} if isinstance(value.get("image"), str) else set()
    return own | {image for each in value.values() for image in _images_in(each)}


def is_exact(image: str) -> bool:
    """Is this one version, down to the patch, or a digest?  Anything less is another image tomorrow."""
    return bool(TAGGED.match(image) or DIGEST.match(image))


def test_every_image_is_one_exact_version() -> None:
    found = images()

    assert {"docker-compose.yml", "Dockerfile", "worker.yaml"} <= set().union(*found.values())
    assert not {image: files for image, files in found.items() if not is_exact(image)}


@pytest.mark.parametrize("image", ["redis", "redis:latest", "redis:7", "redis:7.4-alpine", "python:3.11-slim-bookworm"])
def test_an_image_that_moves_would_be_found(image: str) -> None:
    assert not is_exact(image)


@pytest.mark.long
@pytest.mark.parametrize("image", sorted(images().keys() - {OURS}))
def test_the_registry_has_every_image(image: str) -> None:
    """Asks the registry through Docker's own client, which needs no engine for it; where none answers, that is said."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command here, so nobody asks the registry: run it where there is one")
    command = [docker, "manifest", "inspect", image]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASKED_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the registry said nothing of {image} within {ASKED_S} s: run it where there is a network")
    if done.returncode and not UNKNOWN.search(done.stderr):
        why = done.stderr.strip()[-200:]
        pytest.skip(f"nothing is known of {image} here ({why}): run it where the registry answers")

    assert done.returncode == 0, f"{image} does not exist: {done.stderr}"
