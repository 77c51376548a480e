"""Signatures: who wrote a file, by OpenSSH's own ``ssh-keygen -Y``; nothing is computed here.

The signature of ``r.json`` lies beside it, in ``r.json.sig``. Allowed signers are listed as ssh-keygen(1) describes,
one ``principal [options] key`` a line, so that a runner's key may be limited to this namespace and to a time.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from attnconf.errors import AttnconfError, InvalidInputError
from attnconf.files import read_bytes, write_text

NAMESPACE = "attnconf"
"""What a signature is for: one that was made for anything else is refused."""

_MOST_BYTES = 100_000
"""The size of the largest signature that is looked at; an SSH signature has below 2,000 bytes."""


class SignatureError(AttnconfError):
    """A file without the signature of an allowed signer."""


def signature_path(path: Path) -> Path:
    """Return where the signature of the file ``path`` lies."""
    return path.with_name(path.name + ".sig")


def sign(path: Path, key: Path) -> Path:
    """Sign the file ``path`` with an SSH private ``key`` or, by its public half, one of the agent; return where.

    Raises ``InvalidInputError`` when ssh-keygen cannot do it.
    """
    if not key.is_file():  # ssh-keygen waits for a pipe
        raise InvalidInputError(str(path), given=f"cannot be signed with {key} (there is no such file)")
    target = signature_path(path)
    done = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, content=read_bytes(path))
    if done.returncode != 0 or not done.stdout:
        raise InvalidInputError(str(path), given=f"cannot be signed with {key} ({_last_line(done)})")
    write_text(target, done.stdout.decode("ascii", "replace"))
    return target


def signer_of(path: Path, content: bytes, allowed_signers: Path) -> str:
    """Return the allowed signer who signed ``content``, which was read from ``path``.

    Raises ``SignatureError`` when there is none.
    """
    signature = signature_path(path)
    if not signature.is_file():
        message = f"{path} is not signed: there is no {signature.name} beside it"
        raise SignatureError(message)
    if signature.stat().st_size > _MOST_BYTES:
        message = f"{path} is not signed as it must be: {signature.name} is larger than any signature"
        raise SignatureError(message)
    found = _ssh_keygen("find-principals", "-s", str(signature), "-f", str(allowed_signers))
    principals = found.stdout.decode("utf-8", "backslashreplace").splitlines()
    for name in principals if found.returncode == 0 else []:
        options = ("-f", str(allowed_signers), "-I", name, "-n", NAMESPACE, "-s", str(signature))
        if _ssh_keygen("verify", *options, content=content).returncode == 0:
            return name
    why = (
        f"its signature is not of its content, of {principals[0]}" if principals else "no allowed signer has signed it"
    )
    message = f"{path} is not signed as it must be: {why}"
    raise SignatureError(message)


def _ssh_keygen(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", *arguments]
    with tempfile.TemporaryFile() as given:  # a file, since ssh-keygen may ask at a terminal what it finds missing
        given.write(content)
        given.seek(0)
        try:
            return subprocess.run(command, stdin=given, capture_output=True, check=False, timeout=60)  # noqa: S603
        except FileNotFoundError:
            message = "ssh-keygen is not installed: signatures need OpenSSH 8.1 or later"
            raise AttnconfError(message) from None
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            message = f"ssh-keygen cannot be run: {error}"
            raise AttnconfError(message) from None


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"
