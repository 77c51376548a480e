"""Plans for a fleet: every required cell has a runner or the plan fails; a change is planned as far as it reaches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from attnconf.gate.plans.fleet import differences, parse_fleet, read_fleet
from attnconf.gate.plans.fleet_plan import FleetPlan, plan_fleet
from attnconf.gate.sealed import TamperedError
from attnconf.platforms import Platform
from attnconf.policy.policy import load_policy, parse_policy
from conformance.tests.support.gate_repository import AFTER, BEFORE, FLEET, commit, git, start

SHA = "0" * 40
POLICY = parse_policy(AFTER, "after")
ROOT = Path(__file__).parents[4]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    start(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["plan", "--policy", "policy.toml", "--fleet", "fleet.toml", *arguments])
        return (status, *capsys.readouterr())

    return call


def test_each_required_cell_has_a_runner() -> None:
    made = plan_fleet(POLICY, parse_fleet(FLEET, "fleet"), SHA)
    assert {(job.name, job.backends, len(job.cells)) for job in made.jobs} == {
        ("cpu", ("triton",), 12),
        ("b200", ("trtllm_mha",), 12),
    }
    assert made.nowhere == ()
    assert {cell.id for job in made.jobs for cell in job.cells} == {cell.id for cell in POLICY.all_required}


def test_a_shipped_policy_is_executable_on_the_example_fleet() -> None:
    policy = load_policy("sglang-gemma4")
    made = plan_fleet(policy, read_fleet(ROOT / "ci" / "fleet.toml"), SHA)
    assert made.nowhere == ()
    assert {cell.id for job in made.jobs for cell in job.cells} == {cell.id for cell in policy.all_required}


def test_two_runners_of_a_kind_share_models() -> None:
    made = plan_fleet(POLICY, parse_fleet(FLEET.replace('sm = "10.0"', 'sm = "10.0"\ncount = 5'), "fleet"), SHA)
    jobs = [job for job in made.jobs if job.runner == "b200"]
    assert [(job.name, job.models) for job in jobs] == [("b200.1", ("gemma4-e2b",)), ("b200.2", ("gemma4-12b",))]
    assert sum(len(job.cells) for job in jobs) == 12


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ('sm = "10.0"', 'sm = "12.0"'),
            "of trtllm_mha for Gemma4ForCausalLM, by rule sm100, can be executed nowhere: no",
        ),
        (('"0.6.13"', '"0.6.9"'), "cannot be used: trtllm_mha needs flashinfer-python >=0.6.10.post1, found 0.6.9"),
    ],
)
def test_what_nobody_can_execute_fails_the_plan(
    repository: Path, run: Run, change: tuple[str, str], sentence: str
) -> None:
    commit(repository, policy_toml=AFTER, fleet_toml=FLEET.replace(*change))
    status, out, _ = run()
    assert status == 10
    assert sentence in out
    assert "12 required cells of trtllm_mha for Gemma4ForCausalLM, by rule sm100, can be executed nowhere" in out
    status, out, err = run("--format", "github")
    assert (status, sentence in err, "NOT MET" in out) == (10, True, False)


def test_the_job_matrix_is_what_github_takes(repository: Path, run: Run) -> None:
    commit(repository, policy_toml=AFTER)
    status, out, err = run("--format", "github")
    assert (status, err) == (0, "")
    matrix, jobs = (line.partition("=") for line in out.splitlines())
    assert (matrix[0], jobs) == ("matrix", ("jobs", "=", "2"))
    row = json.loads(matrix[2])["include"][1]
    assert (row["job"], row["labels"], row["sm"], row["cells"]) == ("b200", ["self-hosted", "b200"], "10.0", 12)
    assert row["arguments"] == (
        "--attnconf-job=b200 --attnconf-require-sm=10.0 --attnconf-backend=trtllm_mha"
        " --attnconf-model=gemma4-e2b --attnconf-model=gemma4-12b"
    )


def test_a_plan_is_sealed_and_names_its_commit(repository: Path, run: Run) -> None:
    assert run("-o", "../plan.json")[0] == 0
    path = repository.parent / "plan.json"
    made = FleetPlan.read(path)
    assert made.git_sha == git(repository, "rev-parse", "HEAD")
    assert made == plan_fleet(
        parse_policy(BEFORE, "before"), parse_fleet(FLEET, "fleet"), made.git_sha
    ).model_copy(update={"digest": made.digest})  # fmt: skip
    path.write_text(path.read_text().replace('"executed": 1', '"executed": 0', 1))
    with pytest.raises(TamperedError):
        FleetPlan.read(path)
    (repository / "other.py").write_text("2")
    assert json.loads(run("--json")[1])["git_sha"] == f"{made.git_sha}-dirty"


CHANGES = [
    ({"README_md": "hello"}, set(), ""),
    ({"policy_toml": "# a comment\n" + BEFORE}, set(), ""),
    ({"policy_toml": AFTER}, {"b200 trtllm_mha 12"}, "the policy newly asks for trtllm_mha on b200"),
    (
        {"kernels__triton__decode_py": "2"},
        {"cpu triton 12", "b200 triton 12"},
        "kernels/triton/decode.py is part of the kernels of triton",
    ),
    ({"kernels__trtllm__new_py": "2"}, set(), ""),
    (
        {"other_py": "2"},
        {"cpu triton 12", "b200 triton 12"},
        "other.py is neither among the fleet's kernels nor harmless",
    ),
    (
        {"fleet_toml": FLEET.replace("0.6.13", "0.7.2")},
        {"b200 triton 12"},
        "runner b200 has another GPU or other versions",
    ),
    (
        {"fleet_toml": FLEET.replace('"*.md"', '"*.md", "*.py"'), "other_py": "2"},
        {"cpu triton 12", "b200 triton 12"},
        "the fleet file newly says what other.py concerns",
    ),
    (
        {"policy_toml": BEFORE.replace('["decode", "extend"]', '["decode", "extend", "verify"]')},
        {"cpu triton 6", "b200 triton 6"},
        "the policy newly asks for triton on cpu",
    ),
    (
        {
            "policy_toml": BEFORE
            + '[[waivers]]\nmodes = ["decode"]\nissue = "o/r#1"\nowner = "k"\nexpires = 2999-01-01\n'
        },
        {"cpu triton 6", "b200 triton 6"},
        "a waiver of triton has changed",
    ),
]


@pytest.mark.parametrize(("files", "planned", "reason"), CHANGES, ids=[" ".join(files) for files, _, _ in CHANGES])
def test_a_change_is_planned_as_far_as_it_reaches(
    repository: Path, run: Run, files: dict[str, str], planned: set[str], reason: str
) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, **files)
    status, out, _ = run("--diff", base, "--json")
    data = json.loads(out)
    assert (status, data["base"]) == (0, base)
    assert {f"{job['name']} {job['cells'][0]['backend']} {len(job['cells'])}" for job in data["jobs"]} == planned
    assert data["reasons"][:1] == ([reason] if reason else [])


def test_a_base_without_a_readable_policy_touches_everything(repository: Path, run: Run) -> None:
    base = commit(repository, policy_toml="schema = ")
    commit(repository, policy_toml=BEFORE)
    data = json.loads(run("--diff", base, "--json")[1])
    assert data["reasons"] == ["the policy was not there, or not valid"]
    assert sum(len(job["cells"]) for job in data["jobs"]) == 24


@pytest.mark.parametrize("revision", ["nowhere", "--output=x", "", "HEAD:policy.toml"])
def test_a_base_that_is_no_commit_is_one_sentence(repository: Path, run: Run, revision: str) -> None:
    status, out, err = run(f"--diff={revision}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"a commit that is in {repository.resolve()}" in err


@pytest.mark.parametrize(
    "change",
    [
        ('name = "b200"', 'name = "cpu"'),
        ('sm = "10.0"', 'sm = "ten"'),
        ('sm = "10.0"', 'sm = "10.0"\ncount = 0'),
        ('"0.6.13"', '"newest"'),
        ("flashinfer-python", "flashinfer"),
        ('["self-hosted", "b200"]', "[]"),
        ("fleet/1", "fleet/2"),
        ("[[runners]]", "[[runner]]"),
        ('"10.0"', "["),
    ],
)
def test_a_wrong_fleet_is_one_sentence(change: tuple[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=r"^fleet\b"):
        parse_fleet(FLEET.replace(*change), "fleet")


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({}, ()),
        ({"packages": {"flashinfer-python": "0.6.13+cu130", "torch": "2.11.0"}}, ()),
        ({"sm": (10, 3)}, ("SM 10.3, not 10.0",)),
        ({"sm": None}, ("SM none, not 10.0",)),
        ({"cuda": "12.8"}, ("CUDA 12.8, not 13.0",)),
        ({"packages": {}}, ("flashinfer-python none, not 0.6.13",)),
        ({"packages": {"flashinfer-python": "0.6.13rc1"}}, ("flashinfer-python 0.6.13rc1, not 0.6.13",)),
    ],
)
def test_a_machine_is_held_against_what_the_fleet_states(found: dict[str, object], lines: tuple[str, ...]) -> None:
    fleet = parse_fleet(FLEET, "fleet")
    stated = fleet.platform(fleet.by_name["b200"])
    here = Platform(device="B200", sm=(10, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"})
    assert differences(stated, here.model_copy(update=found)) == lines


def test_options_of_one_machine_do_not_go_with_a_fleet(repository: Path, run: Run) -> None:
    del repository
    assert run("--sm", "10.0")[0] == 2
    assert cli.main(["plan", "--policy", "policy.toml", "--sm", "10.0", "--diff", "HEAD"]) == 2
