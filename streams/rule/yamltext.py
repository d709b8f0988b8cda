"""What does a YAML text hold?  SafeLoader without its traps: bounded, and a repeated key is a fault.

Never knows what the text is about.
"""

from typing import Any, Final

import yaml

from streams.rule.faults import Faults

TEXT_BYTES_MAX: Final = 1 << 20


class _Loader(yaml.SafeLoader):
    """SafeLoader that remembers repeated keys, of which YAML would silently keep the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[str, int]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                continue
            if key.value in seen:
                self.repeated.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, faults: Faults, what: str = "rules") -> Any:
    """Read one document; what is wrong with it is noted as a place in `what`, and then the answer is None."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        faults.note(what, f"{len(text)} characters", f"at most {TEXT_BYTES_MAX} bytes", "split the file")
        return None
    try:
        loader = _Loader(text)
        data = loader.get_single_data()
    # ValueError: SafeLoader lets dates and numbers that are none through as Python raises them
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = what
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            place = f"{what}, line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
        problem = str(error).partition("\n")[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem is not None:
            problem = error.problem if error.context is None else f"{error.context}, {error.problem}"
        faults.note(place, problem, "YAML", "correct the text there")
        return None
    for key, line in loader.repeated:
        faults.note(f"line {line}, {key}", key, "each key once", "remove one of the two")
    return data
