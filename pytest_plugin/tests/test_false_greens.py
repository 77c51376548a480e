"""The gallery of false greens: each way to be green for nothing ends red, with a sentence of its own.

An entry says how it is arranged, what pytest then says, and what ``attnconf verify`` says. That both, the receipt and
the JUnit XML come to one verdict is asked of every entry, and of the honest run that the others are variants of.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

import attnconf.cases.drawing.drawn
from attnconf.cases.drawing.families import space_of
from attnconf.cli import main as cli
from attnconf.gate.receipt import Receipt
from attnconf.policy.policy import read_policy
from attnconf.report.compose import compose
from conformance.tests.support.gated_project import FLEET, POLICY, Project

pytest_plugins = ["pytester"]

SM100 = """[[rules]]
name = "blackwell"
architectures = ["GptOssForCausalLM"]
sm = ["10.x"]
backend = "good"
[[rules]]
"""
WAIVER = """
[[waivers]]
modes = ["extend"]
issue = "owner/repository#7"
owner = "kernels"
expires = 2020-01-01
"""
FAKE = """
@pytest.hookimpl(optionalhook=True, specname="pytest_attnconf_register_backends")
def pytest_attnconf_register_fakes(registry):
    registry.register("reference", toy("reference"))
"""
CLASS = """
from attnconf.backends.reference import ReferenceBackend

class Own(ReferenceBackend):
    name = "own"
"""
FROM_FILE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
from {} import Own

@pytest.hookimpl(optionalhook=True, specname="pytest_attnconf_register_backends")
def pytest_attnconf_register_own(registry):
    registry.register("own", lambda platform: Own())
"""
SUITE = ("--pyargs", "attnconf.suite", "--attnconf-profile=replay", "--attnconf-replay=cases")
JOB = ("--attnconf-policy=toy.toml", "--attnconf-plan=plan.json", "--attnconf-job=cpu")
FILES = ("--attnconf-receipt=r.json", "--junitxml=j.xml")
MET = "policy toy is met on this platform"


Step = Callable[[Project], object]
Change = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way through plan, run and gate; ``backend`` is the policy's default, and the run's backend.

    ``policy`` and ``fleet`` change these files before the plan is made. ``before`` is done between the plan and the
    run, to which ``options`` are added, ``after`` between the run and the gate. A run that may end its process
    has one ``alone``. ``status`` and ``says`` are the run's, ``gate`` and ``finding`` those of ``attnconf verify``.
    """

    says: str
    finding: str
    status: int = 10
    gate: int = 10
    backend: str = "good"
    policy: Change = str
    fleet: Change = str
    options: tuple[str, ...] = ()
    alone: bool = False
    before: Step = id
    after: Step = id

    @property
    def sentence(self) -> str:
        """Its own sentence: the run's, or the gate's where the run itself was rightly green."""
        return self.says if self.status else self.finding


def on_each_item(statement: str) -> str:
    return f"def pytest_collection_modifyitems(items):\n    for item in items:\n        {statement}"


def lose_sight_of_windows(project: Project) -> None:
    """Let the family windows draw contexts of at most 3 keys, which no window cuts."""
    short = {"past_window": False, "max_kv_len": 3, "max_new_tokens": 2, "verify_lens": (2,)}
    project.monkeypatch.setattr(
        attnconf.cases.drawing.drawn, "space_of", lambda *a, **k: replace(space_of(*a, **k), **short)
    )


HONEST = Way(status=0, gate=0, says=MET, finding="policy toy is met at ")
NO_RECEIPT = "(missing): 2 required cells of good are missing (gpt-oss-20b): there is no receipt that counts of job cpu"

BEGUN = "(red): r.json: its run began and has not finished"
PLUGIN = """
import pytest

def pytest_configure(config):
    config.pluginmanager.register(Plugin())

class Plugin:
"""
STOPS = """
    def pytest_runtest_teardown(self):
        pytest.exit("enough", returncode=0)
"""
WHITEWASHES = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    session.exitstatus = 0
"""
REPEATS = """
    def pytest_generate_tests(self, metafunc):
        metafunc.fixturenames.append("again")
        metafunc.parametrize("again", range(2))
"""

WAYS = {
    "a wrong answer": Way(
        backend="wrong", status=1, says="wrong fails case ", finding="wrong gpt-oss-20b sliding decode is not proven"
    ),
    "everything skipped": Way(
        before=lambda project: project.conftest(on_each_item('item.add_marker(pytest.mark.skip(reason="later"))')),
        says="NOT MET: nothing was executed: no backend judged a single case, so nothing is proven",
        finding="(red): r.json: its run ended with exit status 10; nothing was executed",
    ),
    "expected to fail": Way(
        options=("--attnconf-backend=wrong",),
        before=lambda project: project.conftest(on_each_item('item.add_marker("xfail")')),
        status=1,
        says="NOT MET: 2 layers of wrong are broken, but no test failed: a mark, a plugin or an except hides it",
        finding="(broken): runner cpu: 1 layer of wrong gpt-oss-20b@tp8 sliding decode is broken",
    ),
    "wrong GPU": Way(
        options=("--attnconf-require-sm=10.0",),
        status=12,
        says="Exit: attnconf: this runner claims SM 10.0, but the machine has no GPU",
        finding=NO_RECEIPT,
    ),
    "wrong versions": Way(
        fleet=lambda text: f'{text}packages = {{ torch = "1.0" }}\n',
        status=12,
        says="Exit: attnconf: this is not runner cpu of the plan: torch ",
        finding=NO_RECEIPT,
    ),
    "a simulated GPU": Way(
        options=("--attnconf-sm=10.0",),
        says="can be proven on a simulated platform",
        finding="(red): r.json: its run ended with exit status 10",
    ),
    "suite deselected": Way(
        options=("--attnconf-family=decode",),
        says="NOT MET: good gpt-oss-20b sliding decode is not proven: 0 layers passed, 1 needed (no case asked)",
        finding="(missing): runner cpu: good gpt-oss-20b sliding decode is not proven",
    ),
    "-k filter": Way(
        options=("-k", "good-decode"),
        says="NOT MET: good gpt-oss-20b sliding extend is not proven: 0 layers passed, 1 needed (no case asked)",
        finding="(missing): runner cpu: good gpt-oss-20b sliding extend is not proven",
    ),
    "xdist worker died": Way(
        backend="dies",
        policy=lambda text: text.replace(', "extend"', ""),
        before=lambda project: (project.path / "cases" / "extend.json").unlink(),  # each death starts a worker anew
        options=("-n1",),
        status=1,
        says="ended without a verdict",
        finding="dies gpt-oss-20b sliding decode is not proven: 1 of its layers failed",
    ),
    "out of memory": Way(
        backend="memory",
        status=1,
        says="clause 20 (refusal): ran out of memory: MemoryError: no room",
        finding="memory gpt-oss-20b sliding decode is not proven: 1 of its layers failed",
    ),
    "missing kernel cache": Way(
        backend="unbuilt",
        says="(not_run: its kernel module toy_decode is not built (about 60 CPU minutes",
        finding="(not executed): runner cpu: unbuilt gpt-oss-20b sliding decode is not proven",
    ),
    "library missing": Way(
        backend="missing",
        says="NOT MET: missing is the default here but unavailable: missing needs libfoo: pip install libfoo",
        finding="(not_run: missing needs libfoo: pip install libfoo)",
    ),
    "fell back to its contract": Way(
        backend="paper",
        says="NOT MET: paper gpt-oss-20b sliding decode is not proven: 0 layers passed, 1 needed (1 by contract only",
        finding="1 by contract only, which proves no kernel",
    ),
    "fell back to another kernel": Way(
        backend="falls",
        status=1,
        says="clause 20 (refusal), check fallback: torch-paged ran, and not toy-fast: a silent fallback",
        finding="falls gpt-oss-20b sliding decode is not proven: 1 of its layers failed",
    ),
    "vacuous window": Way(
        before=lambda project: project.record("decode", prefix_len=20),
        says="good gpt-oss-20b sliding decode is not proven: 1 layer passed, but none in which window mattered",
        finding="(not proven): runner cpu: good gpt-oss-20b sliding decode is not proven: 1 layer passed, but none in",
    ),
    "vacuous window in a family": Way(
        options=("--attnconf-profile=smoke", "--attnconf-model=toy.json", "-k", "windows or vectors"),
        before=lose_sight_of_windows,
        says="NOT MET: good judged 4 layers in the tests of windows, but none in which window mattered by 10 units",
        finding="(red): r.json: its run ended with exit status 10; good judged 4 layers in the tests of windows",
    ),
    "retry plugin active": Way(
        before=lambda project: project.conftest("def pytest_addoption(parser):\n    parser.addoption('--reruns')"),
        options=("--reruns=2",),
        status=12,
        says="Exit: attnconf: a retry turns a fault of one run in a thousand into a pass, and --reruns",
        finding=NO_RECEIPT,
    ),
    "retry plugin active by an ini file": Way(
        before=lambda project: project.conftest("def pytest_addoption(parser):\n    parser.addini('retries', '')"),
        options=("-o", "retries=2"),
        status=12,
        says="Exit: attnconf: a retry turns a fault of one run in a thousand into a pass, and --retries",
        finding=NO_RECEIPT,
    ),
    "an option that is none": Way(
        options=("--no-such-option",), status=4, says="unrecognized arguments: --no-such-option", finding=BEGUN
    ),
    "a value that is none": Way(
        options=("--attnconf-isolate=maybe",), status=4, says="invalid choice: 'maybe'", finding=BEGUN
    ),
    "a broken conftest": Way(
        before=lambda project: project.conftest("raise RuntimeError('no such luck')"),
        status=4,
        says="RuntimeError: no such luck",
        finding=BEGUN,
    ),
    "a conftest that exits": Way(
        before=lambda project: project.conftest("raise SystemExit(0)"),
        status=4,
        says="ERROR: a conftest ended the process while it was imported: SystemExit: 0",
        finding=BEGUN,
    ),
    "os._exit(0) in a backend": Way(
        backend="leaves",
        alone=True,
        status=2,
        says="attnconf: os._exit(0) ended the run before its end: exit status 2",
        finding=BEGUN,
    ),
    "stopped with status 0": Way(
        before=lambda project: project.conftest(PLUGIN + STOPS),
        says="NOT MET: the run was stopped before its last test",
        finding="(red): r.json: its run ended with exit status 10; the run was stopped before its last test",
    ),
    "another status at the end": Way(
        backend="wrong",
        before=lambda project: project.conftest(WHITEWASHES),
        status=1,
        says="2 failed, ",
        finding="(red): r.json: its run ended with exit status 1",
    ),
    "the same cases twice": Way(
        policy=lambda text: text.replace("effective =", "executed = 2\neffective ="),
        before=lambda project: project.conftest(PLUGIN + REPEATS),
        says="good was asked 2 times for a case again: each case counts once",
        finding="(not proven): runner cpu: good gpt-oss-20b sliding decode is not proven: 1 layer passed, 2 needed",
    ),
    "sealed again in contradiction": Way(
        after=lambda project: project.seal_again("r.json", complaints=["test_it was run again"]),
        status=0,
        says=MET,
        finding="(contradictory): r.json: ended with exit status 0, but complains: test_it was run again",
    ),
    "a name twice": Way(
        after=lambda project: project.edit("r.json", '"exit_status": 0,', '"exit_status": 1, "exit_status": 0,'),
        status=0,
        says=MET,
        finding="(unreadable): r.json is no receipt: r.json: exit_status is given twice; allowed: each name once",
    ),
    "plan from another SHA": Way(
        before=Project.commit,
        status=4,
        says="which is checked out",
        finding="(plan): the plan is of commit ",
    ),
    "receipt from another SHA": Way(
        after=lambda project: (project.commit(), project.replan()),
        status=0,
        says=MET,
        finding="(foreign): r.json: is of commit ",
    ),
    "edited receipt": Way(
        after=lambda project: project.edit("r.json", '"worst_units": 0.', '"worst_units": 0.0'),
        status=0,
        says=MET,
        finding="(tampered): r.json: digest is ",
    ),
    "receipt missing": Way(
        after=lambda project: (project.path / "r.json").unlink(),
        status=0,
        says=MET,
        finding=NO_RECEIPT,
    ),
    "expired waiver": Way(
        policy=lambda text: text + WAIVER,
        says="NOT MET: the waiver of owner/repository#7 (kernels, until 2020-01-01) has expired",
        finding="runner cpu: the waiver of owner/repository#7 (kernels, until 2020-01-01) has expired",
    ),
    "policy file emptied": Way(
        before=lambda project: (project.path / "toy.toml").write_text(""),
        status=11,
        says="Exit: attnconf: policy invalid: toy.toml: schema is {}; allowed: Field required",
        gate=11,
        finding="policy invalid: toy.toml: schema",
    ),
    "policy that requires nothing": Way(
        before=lambda project: (project.path / "toy.toml").write_text(
            POLICY.format("good").partition("[[required]]")[0]
        ),
        status=11,
        says="policy invalid: toy.toml: rule everywhere gives GptOssForCausalLM good, of which no cell must be proven",
        gate=11,
        finding="rule everywhere gives GptOssForCausalLM good, of which no cell must be proven",
    ),
    "masks of images met by causal cases": Way(
        before=lambda project: (project.path / "toy.toml").write_text(
            POLICY.format("good").replace("[[required]]", 'mask = ["causal", "images"]\n[[required]]')
        ),
        status=11,
        says="policy invalid: toy.toml: rule everywhere takes the masks of images, but requires of GptOss",
        gate=11,
        finding="rule everywhere takes the masks of images, but requires of GptOssForCausalLM no extend or mixed cell",
    ),
    "a feature that no case has": Way(
        before=lambda project: (project.path / "toy.toml").write_text(
            POLICY.format("good").replace('["window"]', '["widnow"]')
        ),
        status=11,
        says="toy.toml: required.0.effective.sliding.0 is 'widnow'; allowed: ",
        gate=11,
        finding="policy invalid: toy.toml: required.0.effective.sliding.0 is 'widnow'",
    ),
    "dtypes of which no case was drawn": Way(
        policy=lambda text: text.replace("effective =", 'dtypes = ["bfloat16+float8_e4m3fn"]\neffective ='),
        says="good gpt-oss-20b sliding decode bfloat16+float8_e4m3fn is not proven: 0 layers passed, 1 needed",
        finding="(not proven): runner cpu: good gpt-oss-20b sliding decode bfloat16+float8_e4m3fn is not proven",
    ),
    "toys with the name of a model of one's own": Way(
        before=Project.require_own_model,
        says="NOT MET: good own sliding decode is not proven: 0 layers passed, 1 needed (no case asked)",
        finding="runner cpu: good own sliding decode is not proven",
    ),
    "a conftest takes a shipped name": Way(
        backend="reference",
        before=lambda project: project.conftest(FAKE),
        status=4,
        says="name is 'reference', which backend reference of attnconf ",
        finding="2 required cells of reference are missing (gpt-oss-20b): there is no receipt that counts of job cpu",
    ),
    "a conftest that the commit does not contain": Way(
        before=lambda project: project.untrack("conftest.py"),
        status=4,
        says="for which good comes from conftest.py, which the commit does not contain as it was run: commit it",
        finding=NO_RECEIPT,
    ),
    "a file that git is told not to look at": Way(
        before=lambda project: (
            project.write("hidden.py", CLASS),
            project.conftest(FROM_FILE.format("hidden"), "hidden.py"),
            project.hide("hidden.py"),
        ),
        backend="own",
        status=4,
        says="for which own comes from hidden.py, which the commit does not contain as it was run: commit it",
        finding="2 required cells of own are missing (gpt-oss-20b): there is no receipt that counts of job cpu",
    ),
    "a backend whose class the commit does not contain": Way(
        before=lambda project: (project.write("aside.py", CLASS), project.conftest(FROM_FILE.format("aside"))),
        backend="own",
        status=4,
        says="for which own comes from aside.py, which the commit does not contain as it was run: commit it",
        finding="2 required cells of own are missing (gpt-oss-20b): there is no receipt that counts of job cpu",
    ),
    "a provider that the policy does not take": Way(
        policy=lambda text: text.replace("good = {}", 'good = { provider = "kernels" }'),
        says="it was provided by conftest.py, and the policy demands an entry point of kernels",
        finding="good gpt-oss-20b sliding decode is not proven: it was provided by conftest.py",
    ),
    "no feature mattered": Way(
        policy=lambda text: text.replace('effective = { sliding = ["window"] }', ""),
        before=lambda project: project.monkeypatch.setattr("attnconf.judging.run.effective_features", lambda *_: ()),
        says="no feature mattered in any of the 2 layers judged, so nothing is proven",
        finding="1 layer passed, 1 needed, but in 1 of them no feature mattered",
    ),
    "a named backend that ran nothing": Way(
        options=("--attnconf-backend=missing",),
        says="NOT MET: --attnconf-backend names missing, but it judged nothing: missing needs libfoo",
        finding="(red): r.json: its run ended with exit status 10; --attnconf-backend names missing",
    ),
    "a named backend of which only the contract ran": Way(
        options=("--attnconf-backend=paper",),
        says="NOT MET: --attnconf-backend names paper, but only its documented contract was executed (2 layers)",
        finding="(red): r.json: its run ended with exit status 10; --attnconf-backend names paper",
    ),
    "fleet without the SM": Way(
        policy=lambda text: text.replace("[[rules]]\n", SM100, 1),
        status=4,
        says="ERROR: --attnconf-plan: plan.json, which fails by itself: 2 required cells of good for GptOssForCausalLM",
        finding="(plan): the plan fails by itself: 2 required cells of good for GptOssForCausalLM, by rule blackwell",
    ),
}


def test_each_way_has_a_sentence_of_its_own() -> None:
    sentences = [way.sentence for way in WAYS.values()]
    assert len(sentences) == len(set(sentences))
    assert all(way.status or way.gate for way in WAYS.values())


@pytest.mark.usefixtures("toy_model")
@pytest.mark.parametrize("name", ["honest", *WAYS])
def test_run_receipt_junit_and_gate_agree(
    name: str,
    inner: Callable[..., pytest.RunResult],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    way = HONEST if name == "honest" else WAYS[name]
    project = Project(pytester.path, monkeypatch)
    planned = project.plan(way.policy(POLICY.format(way.backend)), way.fleet(FLEET))
    assert planned == (10 if "fails by itself" in way.finding else 0)
    project.leave_a_green_receipt()
    way.before(project)
    alone = partial(pytester.runpytest_subprocess, "-p", "attnconf")
    run = (alone if way.alone else inner)(*SUITE, *JOB, *FILES, f"--attnconf-backend={way.backend}", *way.options)
    shown = run.stdout.str() + run.stderr.str()
    assert run.ret == way.status, shown
    assert way.says in shown
    assert "Traceback" not in shown

    assert junit_is_green(project.path / "j.xml") is (way.status == 0)
    begun = ""
    if (project.path / "r.json").exists():
        receipt = Receipt.read(project.path / "r.json")
        assert receipt.exit_status == (way.status if receipt.state == "finished" else None)
        begun = BEGUN * (receipt.state == "begun")
        policy = None if way.gate == 11 else read_policy(project.path / "toy.toml")
        document = compose({"r.json": receipt}, policy)
        assert (document.status == "met") is (way.status == 0), document.headline

    way.after(project)
    capsys.readouterr()
    gate = cli.main(["verify", "--policy", "toy.toml", "--plan", "plan.json", "--fleet", "fleet.toml", "r.json"])
    shown = "".join(capsys.readouterr())
    assert gate == way.gate, shown
    assert way.finding in shown
    assert begun in shown or way.gate == 11
    if way.after is id:
        assert (gate == 0) is (run.ret == 0)


def junit_is_green(path: Path) -> bool:
    """Whether a reader of the XML alone sees a passed test, and none that failed."""
    if not path.exists():
        return False
    tests = list(ET.parse(path).getroot().iter("testcase"))  # noqa: S314 - our own file
    bad = [test for test in tests if test.find("failure") is not None or test.find("error") is not None]
    return not bad and any(test.find("skipped") is None for test in tests)
