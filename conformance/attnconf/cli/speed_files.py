"""Speed files: what commands about receipts are given beside them, speed receipts and paired serving results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes
from attnconf.gate.sealed import TamperedError
from attnconf.gate.signatures import SignatureError, signer_of
from attnconf.gate.speeds.paired import Paired
from attnconf.gate.speeds.speed_receipt import SpeedReceipt, is_speed, parse_speed
from attnconf.values import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable

Fault = tuple[Literal["tampered", "unsigned", "unreadable"], str]


@dataclass
class SpeedFiles:
    """The files that could be read, by their names, what is wrong with others, and who signed."""

    speeds: dict[str, SpeedReceipt] = field(default_factory=dict)
    paired: dict[str, Paired] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    signers: set[str] = field(default_factory=set)


def is_of_speed(text: str, source: str) -> bool:
    """Whether ``text`` says by its schema that it is evidence of speed. Raises ``InvalidInputError`` for no JSON."""
    data = parse_json(text, source)
    return is_speed(data) or (isinstance(data, dict) and data.get("schema") == "attnconf.paired/1")


def parse_speed_file(text: str, source: str) -> SpeedReceipt | Paired:
    """Read the ``text`` of a speed receipt or of paired results. Raises ``InvalidInputError`` for anything else."""
    data = parse_json(text, source)
    return parse_speed(text, source) if is_speed(data) else Paired.from_data(data, source)


def read_speed_files(names: Iterable[str], allowed_signers: Path | None = None) -> SpeedFiles:
    """Read speed receipts and paired results; with ``allowed_signers`` only what one of them signed."""
    read = SpeedFiles()
    for name in dict.fromkeys(names):
        path = Path(name)
        try:
            content = read_bytes(path)
            if allowed_signers is not None:
                read.signers.add(signer_of(path, content, allowed_signers))
            found = parse_speed_file(content.decode(), name)
        except TamperedError as error:
            read.faults.append(("tampered", str(error)))
        except SignatureError as error:
            read.faults.append(("unsigned", str(error)))
        except (InvalidInputError, UnicodeDecodeError) as error:
            read.faults.append(("unreadable", f"{name} is no speed receipt and no paired results: {error}"))
        else:
            if isinstance(found, SpeedReceipt):
                read.speeds[name] = found
            else:
                read.paired[name] = found
    return read
