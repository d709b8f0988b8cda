"""Alerts do what Prometheus's do, step by step: written stories, and hundreds of drawn ones, through both engines."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import yaml
from rule.engines import ASKS, STEP_MS, Story, tell_ours, tell_promtool

from streams.rule.amount import duration_text

DRAWN: Final = 24  # rules, with KEYS keys each
KEYS: Final = 20
STEPS: Final = 30
SEED: Final = 20_260


def _line(text: Any) -> list[int | None]:
    """Read values: `_` nothing, 6*3 six thrice."""
    found: list[int | None] = []
    for part in str(text).split():
        value, _, times = part.partition("*")
        found += [None if value == "_" else int(value)] * int(times or 1)
    return found


def _story(raw: dict[str, Any]) -> Story:
    (first, *_) = ASKS[raw["ask"]].fields
    series = {
        key: {name: _line(text) for name, text in (lines if isinstance(lines, dict) else {first: lines}).items()}
        for key, lines in raw.pop("series").items()
    }
    return Story(series=series, for_=raw.pop("for", "0"), **raw)


STORIES: Final = [_story(raw) for raw in yaml.safe_load(Path(__file__).with_name("stories.yaml").read_text("utf-8"))]


def test_there_are_stories_of_every_kind() -> None:
    assert len(STORIES) > 40
    assert ASKS.keys() == {story.ask for story in STORIES}
    assert len(STORIES) == len({story.name for story in STORIES})


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_our_alerts_do_as_the_story_says(story: Story) -> None:
    assert story.expect == tell_ours(story)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_they_do_so_through_restarts(story: Story) -> None:
    assert story.expect == tell_ours(story, Random(SEED))


def test_prometheus_does_as_the_stories_say(tmp_path: Path) -> None:
    assert tell_promtool([story for story in STORIES if not story.exceeds], tmp_path) == ""


@pytest.mark.parametrize("story", [story for story in STORIES if story.exceeds], ids=lambda story: story.name)
def test_prometheus_has_no_alert_at_all_where_ours_keeps_those_that_came_first(story: Story, tmp_path: Path) -> None:
    assert f"exceeded limit of {story.limit_alerts} with 2 alerts" in tell_promtool([story], tmp_path)


def test_a_story_that_is_wrong_is_noticed_by_promtool(tmp_path: Path) -> None:
    story = replace(STORIES[0], expect={"search": "..F.."})

    assert "got" in tell_promtool([story], tmp_path)


# ---- drawn -----------------------------------------------------------------------------------------------------


def _drawn(random: Random, number: int) -> Story:
    """Draw a rule and keys that go up, down and away in runs."""
    ask = random.choice(("above", "ratio", "expr", "when", "gauge"))
    fields = ASKS[ask].fields
    series = {}
    for key in range(KEYS):
        lines: dict[str, list[int | None]] = {name: [] for name in fields}
        while len(lines[fields[0]]) < STEPS:
            run = random.randint(1, random.choice((2, 5, 9)))
            gone = ask != "gauge" and random.random() < 0.2
            for name in fields:
                value = None if gone else random.choice((0, 3, 5, 6, 9))
                lines[name] += [value] * run
        series[f"k{key}"] = {name: line[:STEPS] for name, line in lines.items()}
    waits = [duration_text(step * STEP_MS // 2) for step in (0, 0, 1, 2, 3, 4, 7, 10)]
    limit = 0.5 if ask in {"ratio", "expr"} else 5
    return Story(f"drawn {number}", ask, limit, series, {}, for_=random.choice(waits), keep=random.choice(waits))


def test_hundreds_of_drawn_series_are_judged_alike(tmp_path: Path) -> None:
    """What our engine says, through restarts, is the story that Prometheus is then held to."""
    random = Random(SEED)
    stories = []
    for number in range(DRAWN):
        story = _drawn(random, number)
        story.expect = dict.fromkeys(story.series, "." * STEPS)
        stories.append(replace(story, expect=tell_ours(story, random)))
    told = "".join(line for story in stories for line in story.expect.values())

    assert tell_promtool(stories, tmp_path) == ""
    assert min(told.count(state) for state in ".PF") > DRAWN * KEYS


# ---- what promtool cannot be told: a rule that changes ----------------------------------------------------------


@pytest.mark.parametrize(
    ("reload", "expect"),
    [
        ({"for": "40s"}, "PPFPFF"),
        ({"for": "20s"}, "PPFFFF"),
        ({"for": "0"}, "PPFFFF"),
        ({"keep_firing_for": "1m"}, "PPFFFF"),
    ],
)
def test_a_longer_for_makes_a_firing_alert_pending_again_and_the_time_it_was_active_counts(
    reload: dict[str, str], expect: str
) -> None:
    """As Prometheus has it after a reload; its state is kept by the rule's name."""
    story = Story(
        "reload", "above", 5, {"search": {"tool_calls_error": [6] * 6}}, {"search": expect}, for_="20s",
        reloads={3: reload},
    )  # fmt: skip

    assert story.expect == tell_ours(story)


def test_a_shorter_for_fires_at_the_next_look() -> None:
    story = Story(
        "reload", "above", 5, {"search": {"tool_calls_error": [6] * 5}}, {"search": "PPFFF"}, for_="1m",
        reloads={2: {"for": "20s"}},
    )  # fmt: skip

    assert story.expect == tell_ours(story)


def test_a_shorter_keep_firing_for_holds_at_the_next_look() -> None:
    story = Story(
        "reload", "above", 5, {"search": {"tool_calls_error": [6, 0, 0, 0, 0]}}, {"search": "FFF.."}, keep="5m",
        reloads={3: {"keep_firing_for": "20s"}},
    )  # fmt: skip

    assert story.expect == tell_ours(story)
