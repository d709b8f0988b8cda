"""What does `kubectl kustomize` make of a folder of k8s/?  The part of it that k8s/ uses; anything else is refused.

The digest that a generated ConfigMap's name ends with is left out.
"""

import copy
from pathlib import Path
from typing import Any, Final

import jsonpatch
import yaml

Object = dict[str, Any]
READ: Final = {
    "apiVersion", "kind", "labels", "resources", "components", "configMapGenerator", "patches", "namespace", "replicas",
    "images", "generatorOptions",
}  # fmt: skip
CLUSTER_WIDE: Final = {"Namespace"}


def objects(file: Path) -> list[Object]:
    """Return the objects of a file."""
    return [each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if each is not None]


def render(folder: Path, components: tuple[Path, ...] = ()) -> list[Object]:
    """Return the objects of a kustomization, with more components than it names itself."""
    return _apply(folder, [], components)


def _apply(folder: Path, found: list[Object], components: tuple[Path, ...] = ()) -> list[Object]:
    (spec,) = objects(folder / "kustomization.yaml")
    assert spec.keys() <= READ, f"{folder}: {spec.keys() - READ} is not read here"
    for name in spec.get("resources", ()):
        place = folder / name
        found = [*found, *(_apply(place, []) if place.is_dir() else objects(place))]
    for generator in spec.get("configMapGenerator", ()):
        _config_map(folder, generator | {"options": spec.get("generatorOptions", {})}, found)
    for component in (*(folder / name for name in spec.get("components", ())), *components):
        found = _apply(component, found)
    for patch in spec.get("patches", ()):
        for each in _meant(found, patch["target"]["kind"], patch["target"]["name"]):
            each.update(_patched(each, patch["patch"]))
    for count in spec.get("replicas", ()):
        for each in _meant(found, None, count["name"]):
            each["spec"]["replicas"] = count["count"]
    for image in spec.get("images", ()):
        for container in containers(found):
            name, _, _ = container["image"].partition(":")
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image['newTag']}"
    for each in found:
        if "namespace" in spec and each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = spec["namespace"]
        for labels in spec.get("labels", ()):
            each["metadata"].setdefault("labels", {}).update(labels["pairs"])
    return found


def containers(found: list[Object]) -> list[Object]:
    """Return every container of the workloads."""
    return [container for each in pods(found) for container in each["spec"]["containers"]]


def pods(found: list[Object]) -> list[Object]:
    """Return the pod template of every workload."""
    return [each["spec"]["template"] for each in found if "template" in each.get("spec", {})]


def _config_map(folder: Path, generator: Object, found: list[Object]) -> None:
    data: dict[str, str] = {}
    for file in generator.get("envs", ()):
        data |= _pairs((folder / file).read_text(encoding="utf-8").splitlines())
    data |= _pairs(generator.get("literals", ()))
    data |= {name: (folder / name).read_text(encoding="utf-8") for name in generator.get("files", ())}
    if generator.get("behavior") == "merge":
        for each in _meant(found, "ConfigMap", generator["name"]):
            each["data"] |= data
        return
    labels = generator["options"].get("labels", {})
    metadata = {"name": generator["name"], **({"labels": dict(labels)} if labels else {})}
    found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _pairs(lines: Any) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if line)


def _meant(found: list[Object], kind: str | None, name: str) -> list[Object]:
    scaled = {"Deployment", "StatefulSet"} if kind is None else {kind}
    meant = [each for each in found if each["kind"] in scaled and each["metadata"]["name"] == name]
    assert meant, f"nothing is called {name}"
    return meant


def _patched(each: Object, patch: str) -> Object:
    done: Object = jsonpatch.apply_patch(copy.deepcopy(each), yaml.safe_load(patch))
    each.clear()
    return done
