"""Schemas: the shipped files are those of the models, and what is valid by one is valid by the other."""

from __future__ import annotations

import json
import tomllib

import jsonschema

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.policy.policy import Policy, shipped_policies
from attnconf.report.schemas import schemas
from attnconf.serving.events import Evict, Submit
from attnconf.serving.setting import setting_of
from attnconf.serving.story import Story
from attnconf_fixtures import ROOT


def test_the_shipped_schemas_are_current() -> None:
    folder = ROOT / "schema"
    shipped = {path.name: path.read_text() for path in folder.glob("*.json")}
    assert {name: shipped.get(name) for name in schemas()} == schemas(), "run attnconf.report.schemas.write_schemas"


def test_files_are_valid_under_their_schemas() -> None:
    layer = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=8, sm_scale=1.0)
    case = Case(mode="decode", layers=(layer,), requests=(Request(prefix_len=3),))
    jsonschema.validate(case.to_data(), Case.model_json_schema(by_alias=True))
    for name in shipped_policies():
        text = (ROOT / "policies" / f"{name}.toml").read_text(encoding="utf-8")
        jsonschema.validate(tomllib.loads(text), Policy.model_json_schema(by_alias=True))


def test_a_story_is_valid_under_its_schema_as_it_is_written() -> None:
    story = Story(setting=setting_of("gemma4-e2b"), events=(Submit(request=0, prompt=(1, 2), answer=1), Evict()))
    jsonschema.validate(story.to_data(), json.loads(schemas()["story-1.json"]))
