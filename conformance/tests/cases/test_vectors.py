"""The recorded cases: real geometry, a named bug each, and the power to show it."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.geometry import LayerGeometry, unsharded
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from attnconf.cases.vectors import VectorFile, cases_to_replay, empty_files, read_cases, shipped_vectors
from attnconf.errors import InvalidInputError
from attnconf.platforms import Platform
from attnconf.running.session import Session
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.judging.result import CaseResult

VECTORS = shipped_vectors()
FILES = sorted((ROOT / "vectors").glob("*.json"))


@cache
def on_reference(name: str) -> CaseResult:
    """Run one vector, with every check."""
    session = Session(platform=Platform(), profile=profile_named("replay"))
    return session.run(VECTORS[name].case, "reference", "all")


def test_every_file_adds_vectors_of_its_own() -> None:
    files = [VectorFile.read(path) for path in FILES]
    assert len(files) >= 5
    assert sum(len(file.vectors) for file in files) == len(VECTORS) >= 20
    assert all(len(file.provenance) > 50 for file in files)


def test_no_two_vectors_ask_the_same() -> None:
    assert len({vector.case.id for vector in VECTORS.values()}) == len(VECTORS)


@pytest.mark.parametrize("name", VECTORS)
def test_it_says_what_it_is_for(name: str) -> None:
    vector = VECTORS[name]
    assert len(vector.note) > 40
    assert re.fullmatch(r"[a-z0-9-]+: ([\w.-]+/[\w.-]+#\d+|found by attnconf in [\w-]+ [\w.]+)", vector.bug)
    assert vector.shows


@pytest.mark.parametrize("name", VECTORS)
def test_its_layers_are_those_of_the_model(name: str) -> None:
    case = VECTORS[name].case
    shard = int(case.model.partition("@tp")[2] or 1)
    model = load_model(unsharded(case.model)).shard(shard)
    assert model.name == case.model
    # a case without spans says nothing about them, and older ones could not
    ignored = {"kv_owner"} if any(request.spans for request in case.requests) else {"kv_owner", "spans"}
    geometry = {_without(ignored, layer) for layer in model.layers}
    for layer in case.layers:
        assert _without(ignored, layer) in geometry


def _without(ignored: set[str], layer: LayerGeometry) -> tuple[object, ...]:
    fields = LayerGeometry.model_fields.keys() - ignored
    return (layer.cell_kind, *(getattr(layer, name) for name in sorted(fields)))


@pytest.mark.parametrize("name", VECTORS)
def test_what_it_recalls_would_show(name: str) -> None:
    effective = {feature for layer in on_reference(name).layers for feature in layer.effective}
    assert set(VECTORS[name].shows) <= effective


@pytest.mark.parametrize("name", VECTORS)
def test_the_reference_passes_it(name: str) -> None:
    assert [layer.outcome.value for layer in on_reference(name).layers] == ["passed"] * len(VECTORS[name].case.layers)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_written_in_one_way(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    for vector in data["vectors"]:
        assert Case.from_data(vector["case"], path.name).to_data() == vector["case"]


def a_case(seed: int = 0) -> Case:
    """Return a small case."""
    layer = Layer(kind="full", num_qo_heads=1, num_kv_heads=1, head_dim=16, sm_scale=0.25)
    return Case(mode="decode", layers=(layer,), requests=(Request(),), seed=seed)


def test_names_that_collide_lose_no_case(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 1), ("c", 1)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.json").write_text(json.dumps(a_case(seed).to_data()))
    found = cases_to_replay([tmp_path / "a", tmp_path / "b", tmp_path / "c" / "x.json"])
    assert found == {"x": a_case(0), f"x-{a_case(1).id}": a_case(1)}


def test_without_paths_the_shipped_ones_are_replayed() -> None:
    assert cases_to_replay([]) == {name: vector.case for name, vector in VECTORS.items()}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "x.json: *"),
        ('{"schema": "attnconf.vectors/1", "provenance": "", "vectors": []}', "x.json: vectors is *"),
        ('{"schema": "attnconf.vectors/2", "provenance": "", "vectors": [1]}', "x.json: schema is *"),
    ],
)
def test_what_is_no_vector_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        read_cases(tmp_path / "x.json")
    assert re.search(sentence.replace(".", r"\.").replace("*", ".*"), str(caught.value))


def test_two_vectors_of_one_name_are_refused(tmp_path: Path) -> None:
    vectors = [{"name": "x", "note": "n", "case": a_case(seed).to_data()} for seed in (0, 1)]
    data = {"schema": "attnconf.vectors/1", "provenance": "p", "vectors": vectors}
    (tmp_path / "v.json").write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match="two vectors are called x"):
        read_cases(tmp_path / "v.json")


def test_a_vector_shows_known_features_only(tmp_path: Path) -> None:
    vector = {"name": "x", "note": "n", "shows": ["widnow"], "case": a_case().to_data()}
    (tmp_path / "v.json").write_text(
        json.dumps({"schema": "attnconf.vectors/1", "provenance": "p", "vectors": [vector]})
    )
    with pytest.raises(InvalidInputError, match=r"v.json: vectors.0.shows.0 is 'widnow'; allowed: .* or 'window'"):
        read_cases(tmp_path / "v.json")


def test_an_empty_file_does_not_hide_the_others_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cut.json").touch()
    with pytest.raises(InvalidInputError, match="holds no case files"):
        read_cases(tmp_path)
    (tmp_path / "whole.json").write_text(json.dumps(a_case().to_data()))
    assert read_cases(tmp_path) == {"whole": a_case()}
    assert empty_files(tmp_path) == [tmp_path / "cut.json"]
    with pytest.raises(InvalidInputError, match=r"cut.json: line 1"):
        read_cases(tmp_path / "cut.json")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no case files"):
        read_cases(tmp_path)
