"""Signatures by ssh-keygen: of allowed signers, for this purpose, of the very bytes that are judged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from attnconf.cli import main as cli
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import plan_fleet
from attnconf.policy.policy import parse_policy
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import AFTER, FLEET

SHA = "0" * 40
PLAN = plan_fleet(parse_policy(AFTER, "after"), parse_fleet(FLEET, "fleet"), SHA)


def make_key(folder: Path, name: str) -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
    subprocess.run(command, check=True)  # noqa: S603 - no shell
    return (folder / f"{name}.pub").read_text().strip()


@pytest.fixture
def verify(tmp_path: Path) -> list[str]:
    (tmp_path / "policy.toml").write_text(AFTER)
    PLAN.write(tmp_path / "plan.json")
    for job in ("cpu", "b200"):
        receipt_of(PLAN, job).write(tmp_path / f"{job}.json")
    (tmp_path / "signers").write_text(f'runner@ci namespaces="attnconf" {make_key(tmp_path, "runner")}\n')
    make_key(tmp_path, "stranger")
    files = [str(tmp_path / name) for name in ("policy.toml", "plan.json", "signers", "cpu.json", "b200.json")]
    return ["verify", "--policy", files[0], "--plan", files[1], "--sha", SHA, "--allowed-signers", *files[2:]]


def sign(folder: Path, name: str, key: str = "runner") -> int:
    return cli.main(["sign", str(folder / name), "--key", str(folder / key)])


def test_signed_receipts_are_green_and_their_signer_is_named(
    verify: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [sign(tmp_path, name) for name in ("cpu.json", "b200.json", "b200.json")] == [0, 0, 0]
    assert cli.main(verify) == 0
    assert capsys.readouterr().out.endswith("24 required cells in 2 receipts, signed by runner@ci\n")


def test_what_is_not_signed_by_an_allowed_signer_is_red(
    verify: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign(tmp_path, "cpu.json")
    assert cli.main(verify) == 10
    assert "(unsigned): " in (out := capsys.readouterr().out)
    assert "b200.json is not signed: there is no b200.json.sig beside it" in out
    sign(tmp_path, "b200.json", "stranger")
    assert cli.main(verify) == 10
    assert "b200.json is not signed as it must be: no allowed signer has signed it" in capsys.readouterr().out
    (tmp_path / "b200.json.sig").write_bytes((tmp_path / "cpu.json.sig").read_bytes())
    assert cli.main(verify) == 10
    assert "its signature is not of its content, of runner@ci" in capsys.readouterr().out
    (tmp_path / "b200.json.sig").write_text("no signature")
    assert cli.main(verify) == 10


def test_a_signature_for_another_purpose_is_red(verify: list[str], tmp_path: Path) -> None:
    (tmp_path / "signers").write_text(f"runner@ci {(tmp_path / 'runner.pub').read_text()}")
    sign(tmp_path, "cpu.json")
    command = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-f",
        str(tmp_path / "runner"),
        "-n",
        "git",
        str(tmp_path / "b200.json"),
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - no shell
    assert cli.main(verify) == 10
    sign(tmp_path, "b200.json")
    assert cli.main(verify) == 0


def test_what_cannot_be_signed_or_checked_is_one_sentence(
    verify: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> str:
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    assert sign(tmp_path, "b200.json", "no-key") == 2
    assert "cannot be signed with" in said()
    assert sign(tmp_path, "signers") == 2
    assert "a JSON document" in said()
    sign(tmp_path, "cpu.json")
    capsys.readouterr()
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in (verify, ["sign", str(tmp_path / "b200.json"), "--key", str(tmp_path / "runner")]):
        assert cli.main(command) == 2
        assert said() == "attnconf: ssh-keygen is not installed: signatures need OpenSSH 8.1 or later\n"
    (tmp_path / "signers").unlink()
    assert cli.main(verify) == 2
    assert "a file of allowed signers" in said()
