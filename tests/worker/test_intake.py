"""Reading events from files and pipes: lines, one array, and what is neither."""

import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from streams.errors import ConfigError
from streams.worker import intake
from streams.worker.intake import LINE_BYTES_MAX, READ_BYTES, Item


async def gathered(items: AsyncIterator[Item]) -> list[Item]:
    return [item async for item in items]


async def events(folder: Path, content: bytes) -> list[Item]:
    file = folder / "input"
    file.write_bytes(content)
    with file.open("rb", buffering=0) as stream:
        return await gathered(intake.events(stream.fileno()))


def values(items: Iterable[Item]) -> list[bytes]:
    return [item.value for item in items]


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"\r\n"])
async def test_blank_input_holds_nothing(tmp_path: Path, content: bytes) -> None:
    assert await events(tmp_path, content) == []


async def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    items = await events(tmp_path, b'{"a":1}\r\n\n  {"b":2}  \n{"c":3}')

    assert items == [Item("line 1", b'{"a":1}'), Item("line 3", b'{"b":2}'), Item("line 4", b'{"c":3}')]


async def test_lines_across_reads_stay_whole(tmp_path: Path) -> None:
    """Lines of many lengths meet every boundary of the chunks that are read."""
    lines = [b"{%s}" % (b"x" * (number * 37 % 1500)) for number in range(1000)]
    content = b"\n".join(lines)
    assert len(content) > 5 * READ_BYTES

    assert values(await events(tmp_path, content)) == lines


async def test_one_array_is_taken_apart(tmp_path: Path) -> None:
    items = await events(tmp_path, b' \n[\n {"a": 1},\n {"b": [2, 3]}\n]\n')

    assert items == [Item("element 1", b'{"a": 1}'), Item("element 2", b'{"b": [2, 3]}')]


async def test_raw_lines_are_never_taken_for_an_array(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"[1]\n[2\nnot json\n")
    with file.open("rb", buffering=0) as stream:
        assert values(await gathered(intake.lines(stream.fileno()))) == [b"[1]", b"[2", b"not json"]


async def test_broken_array_says_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not one JSON array.*one event per line"):
        await events(tmp_path, b'[{"a":1}]\n[{"b":2}]\n')


async def test_line_beyond_the_limit_is_reported_and_the_next_one_read(tmp_path: Path) -> None:
    items = await events(tmp_path, b"{}\n" + b"x" * (3 * LINE_BYTES_MAX) + b"\n{}\n")

    assert [(item.where, item.value) for item in items] == [("line 1", b"{}"), ("line 2", b""), ("line 3", b"{}")]
    assert items[1].fault == f"longer than {LINE_BYTES_MAX} bytes"


async def test_line_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    items = await events(tmp_path, b"x" * LINE_BYTES_MAX + b"\n")

    assert [(len(item.value), item.fault) for item in items] == [(LINE_BYTES_MAX, None)]


async def test_lines_of_a_pipe_come_before_it_ends() -> None:
    reader, writer = os.pipe()
    try:
        items = intake.events(reader)
        os.write(writer, b'{"a":1}\n{"b"')
        assert await anext(items) == Item("line 1", b'{"a":1}')
        os.write(writer, b":2}\n")
        assert await anext(items) == Item("line 2", b'{"b":2}')
    finally:
        os.close(writer)
    assert await gathered(items) == []
    os.close(reader)


async def test_folder_is_named_as_unreadable(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ConfigError, match="Is a directory"):
            await gathered(intake.events(descriptor))
    finally:
        os.close(descriptor)
