"""Signatures: who wrote a file, by OpenSSH's own ``ssh-keygen -Y``; nothing is computed here.

The signature of ``r.json`` lies beside it, in ``r.json.sig``. Allowed signers are listed as ssh-keygen(1) describes,
one ``principal [options] key`` a line, so that a runner's key may be limited to this namespace and to a time.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from attnconf.errors import AttnconfError, InvalidInputError

NAMESPACE = "attnconf"
"""What a signature is for: one that was made for anything else is refused."""


class SignatureError(AttnconfError):
    """A file without the signature of an allowed signer."""


def signature_path(path: Path) -> Path:
    """Return where the signature of the file ``path`` lies."""
    return path.with_name(path.name + ".sig")


def sign(path: Path, key: Path) -> Path:
    """Sign the file ``path`` with an SSH private ``key`` or, by its public half, one of the agent; return where.

    Raises ``InvalidInputError`` when ssh-keygen cannot do it.
    """
    target = signature_path(path)
    target.unlink(missing_ok=True)  # ssh-keygen would ask whether it may be replaced
    done = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, "--", str(path))
    if done.returncode != 0 or not target.exists():
        raise InvalidInputError(str(path), given=f"cannot be signed with {key} ({_last_line(done)})")
    return target


def signer_of(path: Path, content: bytes, allowed_signers: Path) -> str:
    """Return the allowed signer who signed ``content``, which was read from ``path``.

    Raises ``SignatureError`` when there is none.
    """
    signature = signature_path(path)
    if not signature.is_file():
        message = f"{path} is not signed: there is no {signature.name} beside it"
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
