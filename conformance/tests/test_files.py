"""Files are read up to a size and written as a whole; pipes, devices and links are what a person takes them for."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from attnconf import files
from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes, read_text, refuse_unwritable, write_bytes, write_text
from attnconf.values import MOST_TOML, MOST_VALUES, parse_json, parse_toml


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)


def pipe_in(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_read_up_to_its_limit_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(InvalidInputError, match=r"/a: too large; allowed: at most 4e-06 MB$"):
        read_bytes(tmp_path / "a", 4)


def test_a_device_without_an_end_is_too_large() -> None:
    with pytest.raises(InvalidInputError, match=r"^/dev/zero: too large; allowed: at most 16 MB$"):
        read_text(Path("/dev/zero"))
    assert read_text(Path("/dev/null")) == ""


@pytest.mark.usefixtures("hurried")
def test_a_pipe_is_read_and_one_that_never_ends_is_given_up(tmp_path: Path) -> None:
    pipe = pipe_in(tmp_path)
    with pytest.raises(InvalidInputError, match=r"cannot be read \(nothing more came, and no end within 0.3 s\)"):
        read_text(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("x" * 200_000,))
    writer.start()
    assert read_text(pipe) == "x" * 200_000
    writer.join()
    stalled = os.open(pipe, os.O_RDWR)
    os.write(stalled, b"{")
    with pytest.raises(InvalidInputError, match="no end within"):
        read_text(pipe)
    os.close(stalled)


@pytest.mark.usefixtures("hurried")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = pipe_in(tmp_path)
    with pytest.raises(InvalidInputError, match=r"cannot be written \(a pipe that nobody reads\)"):
        write_text(pipe, "lost")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "y" * 200_000)
    reader.join()
    assert found == ["y" * 200_000]
    idle = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(InvalidInputError, match=r"cannot be written \(nobody read on within 0.3 s\)"):
        write_text(pipe, "z" * 200_000)
    os.close(idle)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == {"pipe"}


def test_devices_are_written_to_and_stay_devices(tmp_path: Path) -> None:
    write_text(Path("/dev/null"), "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    (tmp_path / "full").symlink_to("/dev/full")
    for full in (Path("/dev/full"), tmp_path / "full"):
        with pytest.raises(InvalidInputError, match=r"cannot be written \(No space left on device\)"):
            write_text(full, "text")
        assert stat.S_ISCHR(full.stat().st_mode)
    assert (tmp_path / "full").is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_output_gets_it_between_what_is_printed(name: str, piped: bool, tmp_path: Path) -> None:  # noqa: FBT001
    code = f"print('a'); write_text(Path({name!r}), 'b\\n'); print('c')"
    code = f"from pathlib import Path; from attnconf.files import write_text; {code}"
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE if piped else out)  # noqa: S603
    assert (done.stdout if piped else (tmp_path / "out").read_bytes()) == b"a\nb\nc\n"
    assert names(tmp_path) == {"out"}


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "new").symlink_to("made")
    for name, target in (("link", "real"), ("new", "made")):
        write_text(tmp_path / name, "text")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_text() == "text"
        assert not (tmp_path / target).is_symlink()


def test_the_mode_of_a_file_stays_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    write_text(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    plain.chmod(0o640)
    write_text(plain, "text")
    assert stat.S_IMODE(plain.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    for name in ("a", "b"):
        with pytest.raises(InvalidInputError, match=r"cannot be written \(No space left on device\)"):
            write_text(tmp_path / name, "new")
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "old"


def test_what_can_only_be_written_in_place_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounted").write_text("older and longer")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "replace", busy)
    write_text(tmp_path / "mounted", "new")
    assert (tmp_path / "mounted").read_text() == "new"
    assert names(tmp_path) == {"mounted"}


def test_of_writers_at_once_one_has_the_last_word_and_readers_see_whole_files(tmp_path: Path) -> None:
    path, contents = tmp_path / "shared", [bytes([65 + i]) * 300_000 for i in range(4)]
    write_bytes(path, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_bytes(path, c) for _ in range(10)]) for c in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_bytes() in contents
        time.sleep(0.001)
    assert path.read_bytes() in contents
    assert names(tmp_path) == {"shared"}


def test_whether_it_could_be_written_is_asked_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for path in (tmp_path / "old", tmp_path / "new", Path("/dev/null"), Path("/dev/stdout")):
        refuse_unwritable(path)
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "no" / "such", "No such file or directory")):
        with pytest.raises(InvalidInputError, match=rf"cannot be written \({reason}\)"):
            refuse_unwritable(path)
        with pytest.raises(InvalidInputError, match=rf"cannot be written \({reason}\)"):
            write_text(path, "text")
    assert names(tmp_path) == {"old"}
    assert (tmp_path / "old").read_text() == "old"


def test_a_text_with_too_many_values_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(InvalidInputError, match=f"x: too many values; allowed: at most {MOST_VALUES}"):
        parse_json("[" + "[]," * MOST_VALUES + "0]", "x")
    with pytest.raises(InvalidInputError, match=r"x: too large; allowed: at most 0.256 MB of TOML"):
        parse_toml("#" * (MOST_TOML + 1), "x")
