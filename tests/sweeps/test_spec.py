"""The sweep file: what is read, and that every mistake gets one sentence with its place, all at once."""

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from hushsweep.sweeps import SpecError, SweepSpec, json_schema
from hushsweep.sweeps.identity import EXECUTION_FIELDS, IDENTITY_FIELDS
from hushsweep.sweeps.search.fields import EarlyStoppingSpec
from hushsweep.sweeps.source import Source, parse_source
from hushsweep.sweeps.spec import DatasetSpec, ExecutionSpec, ModelSpec

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "sweeps" / "examples").glob("*.yaml"))

GOOD = """
name: good
dataset: {name: digits}
model: {name: digits_mlp, weights: random}
mechanism: {name: gaussian, noise_scale: 1e-1}
measures: {name: accuracy}
"""


@functools.cache
def _schema() -> dict[str, Any]:
    """The published schema: a second's work, read by many tests."""
    return json_schema()


def lines_of(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        SweepSpec.parse(text)
    return list(caught.value.lines)


def test_scalars_become_lists_and_yaml_is_1_2() -> None:
    spec = SweepSpec.parse(GOOD.replace("good", "no"))
    assert spec.name == "no"
    assert spec.mechanism[0][0].noise_scale == [0.1]
    assert spec.cut == ["features"]


def test_all_mistakes_are_reported_at_once_with_their_lines() -> None:
    found = lines_of(
        """name: a/b
seed: -1
dataset: {name: digits, lmit: 3}
model: {weights: random, num_classes: 2.5}
cut: []
mechanism:
  - {name: gausian, noise_scale: 1}
  - name: gaussian
    noise_scale: [1, 2, -0.5, .nan, "x", true]
measures: [{name: accuracy, drws: 2}, {name: hcr, restarts: 0}, {name: hrc}]
executon: 3
execution: {shards: 0, foo: 1}
precision: float23
"""
    )
    expected = [
        "sweep:1: name: expected a plain name",
        "sweep:2: seed: expected a number >= 0, got -1",
        "sweep:3: dataset.lmit: unknown key; did you mean 'limit'?",
        "sweep:4: model.name: is missing",
        "sweep:4: model.num_classes: expected a whole number, got 2.5",
        "sweep:5: cut: expected one value or a list of values, got an empty list",
        "sweep:7: mechanism[0].name: unknown mechanism 'gausian'; did you mean 'gaussian'? Known: ",
        "sweep:9: mechanism[1].noise_scale[2]: expected a number >= 0, got -0.5",
        "sweep:9: mechanism[1].noise_scale[3]: expected a finite number, got nan",
        "sweep:9: mechanism[1].noise_scale[4]: expected a number, got 'x'",
        "sweep:9: mechanism[1].noise_scale[5]: expected a number, got True",
        "sweep:10: measures[0].drws: unknown key; did you mean 'draws'?",
        "sweep:10: measures[1].restarts: expected a number >= 1, got 0",
        "sweep:10: measures[2].name: unknown measure 'hrc'; did you mean 'hcr'?",
        "sweep:11: executon: unknown key; did you mean 'execution'?",
        "sweep:12: execution.shards: expected a number >= 1, got 0",
        "sweep:12: execution.foo: unknown key",
        "sweep:13: precision: expected 'float32' or 'bfloat16', got 'float23'",
    ]
    for start in expected:
        assert any(line.startswith(start) for line in found), (start, found)
    assert len(found) == len(expected), found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: good", "name: good\nname: again", "found duplicate key"),
        ("noise_scale: 1e-1", "noise_scale: []", "got an empty list"),
        ("noise_scale: 1e-1", "noise_scale: [1, 1.0]", "stands twice"),
        ("measures: {name: accuracy}", "measures: []", "measures: expected a measure"),
        ("measures: {name: accuracy}", "", "measures: is missing"),
        ("{name: gaussian, noise_scale: 1e-1}", "{chain: []}", "got an empty list"),
        ("{name: gaussian, noise_scale: 1e-1}", "[]", "got an empty list"),
        ("{name: gaussian, noise_scale: 1e-1}", "gaussian", "expected keys and values with a name"),
        ("weights: random", "weights: [random, random]", "stands twice"),
        ("dataset: {name: digits}", "dataset: []", "dataset: expected one or a list of them"),
        ("model: {name: digits_mlp, weights: random}", "model: []", "model: expected one or a list of them"),
        ("name: good", "name: ../up", "expected a plain name"),
        ("name: good", "- 1", "not valid YAML"),
    ],
)
def test_each_mistake_has_its_sentence(old: str, new: str, said: str) -> None:
    found = lines_of(GOOD.replace(old, new))
    assert any(said in line for line in found), found


def test_every_field_is_identity_or_execution_and_not_both() -> None:
    def fields(prefix: str, model: type[BaseModel]) -> set[str]:
        return {prefix + name for name in model.model_fields}

    sections = {
        "dataset": DatasetSpec,
        "model": ModelSpec,
        "early_stopping": EarlyStoppingSpec,
        "execution": ExecutionSpec,
    }
    all_fields = fields("", SweepSpec) - set(sections)
    for section, model in sections.items():
        all_fields |= fields(f"{section}.", model)
    assert all_fields == IDENTITY_FIELDS | EXECUTION_FIELDS
    assert not IDENTITY_FIELDS & EXECUTION_FIELDS


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read_and_fit_the_published_schema(path) -> None:
    SweepSpec.load(path)
    schema = json.loads(json.dumps(_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(YAML(typ="safe", pure=True).load(path.read_text()), schema)


def test_schema_refuses_what_the_reader_refuses() -> None:
    data = YAML(typ="safe", pure=True).load(GOOD)
    validator = jsonschema.Draft202012Validator(_schema())
    assert validator.is_valid(data)
    for change in (
        {"mechanism": {"name": "gausian", "noise_scale": 1}},
        {"mechanism": {"name": "gaussian", "noise_scale": -1}},
        {"unknown": 1},
        {"measures": {"name": "accuracy", "drws": 1}},
        {"measures": {"name": "hcr", "search": "paper"}},
        {"measures": {"name": "bounds", "memory_gb": 0}},
    ):
        assert not validator.is_valid({**data, **change}), change


BOUNDS = """
measures:
  - {name: accuracy}
  - name: bounds
    shifts: %s
"""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("dct", [("dct",)]),
        ("[dct, jacobian]", [("dct", "jacobian")]),
        ("[[dct], [dct, jacobian]]", [("dct",), ("dct", "jacobian")]),
        ("null", None),
    ],
)
def test_an_option_that_is_a_list_is_one_value_and_lists_of_it_multiply(written: str, read) -> None:
    text = GOOD.replace("measures: {name: accuracy}", BOUNDS % written)
    assert SweepSpec.parse(text).measures[1].shifts == read
    jsonschema.validate(YAML(typ="safe", pure=True).load(text), _schema())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("dctt", "sweep:10: measures[1].shifts: expected 'jacobian', 'dct', "),
        ("\n    - dct\n    - dctt", "sweep:12: measures[1].shifts[1]: expected 'jacobian', 'dct', "),
        ("\n    - [dct]\n    - [dct, dctt]", "sweep:12: measures[1].shifts[1][1]: expected 'jacobian', "),
        ("[[dct], jacobian]", "measures[1].shifts[1]: expected a list, got 'jacobian'"),
        ("[dct, [jacobian]]", "measures[1].shifts[1]: expected 'jacobian', 'dct', "),
        ("[dct, dct]", "measures[1].shifts: the value 'dct' stands twice"),
        ("[[dct], [dct]]", "measures[1].shifts: the value ['dct'] stands twice"),
        ("[[dct], [dct, dct]]", "measures[1].shifts: the value 'dct' stands twice"),
        ("[]", "measures[1].shifts: expected one value or a list of values, got an empty list"),
        ("[[]]", "measures[1].shifts: expected one value or a list of values, got an empty list"),
        ("3", "measures[1].shifts: expected 'jacobian', 'dct', "),
    ],
)
def test_mistakes_in_such_a_list_have_their_place(written: str, said: str) -> None:
    text = GOOD.replace("measures: {name: accuracy}", BOUNDS % written)
    found = lines_of(text)
    assert len(found) == 1, found
    assert said in found[0]
    assert not jsonschema.Draft202012Validator(_schema()).is_valid(YAML(typ="safe", pure=True).load(text))


LEVELS = """
measures:
  - {name: accuracy}
  - {name: reconstruction, attack: decoder, levels: %s}
"""


@pytest.mark.parametrize(
    ("written", "read"),
    [("[0.5, 2]", [(0.5, 2.0)]), ("[[0.5, 2], [1, 3]]", [(0.5, 2.0), (1.0, 3.0)]), ("null", None)],
)
def test_a_range_is_one_value_and_lists_of_ranges_multiply(written: str, read) -> None:
    text = GOOD.replace("measures: {name: accuracy}", LEVELS % written)
    assert SweepSpec.parse(text).measures[1].levels == read
    jsonschema.validate(YAML(typ="safe", pure=True).load(text), _schema())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0.5", "measures[1].levels: value 2 of this list is missing"),
        ("[0.5]", "measures[1].levels[1]: value 2 of this list is missing"),
        ("[1, 2, 3]", "measures[1].levels: expected at most 2 values, got 3"),
        ("[1, x]", "measures[1].levels[1]: expected a number, got 'x'"),
        ("[[1, 2], [1, 2]]", "measures[1].levels: the value [1, 2] stands twice"),
    ],
)
def test_mistakes_in_a_range_have_their_place(written: str, said: str) -> None:
    text = GOOD.replace("measures: {name: accuracy}", LEVELS % written)
    found = lines_of(text)
    assert len(found) == 1, found
    assert said in found[0]
    assert not jsonschema.Draft202012Validator(_schema()).is_valid(YAML(typ="safe", pure=True).load(text))


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=8,
    )
)
def test_no_input_ends_in_a_traceback(value) -> None:
    """Whatever stands in a section, the answer is a sentence or a sweep."""
    for section in ("name", "dataset", "model", "mechanism", "measures", "execution", "seed", "cut"):
        good = parse_source(GOOD)
        data = {**good.data, section: value}
        source = Source(name="x", text="", data=data, root=None, folder=good.folder)
        try:
            SweepSpec.from_source(source)
        except SpecError as error:
            assert error.lines


def test_every_field_says_what_it_means_and_what_it_is_unless_told() -> None:
    schema = _schema()
    keys = {("", name): key for name, key in schema["properties"].items()}
    for section, definition in schema["$defs"].items():
        keys |= {(section, name): key for name, key in definition["properties"].items()}
    assert [place for place, key in keys.items() if "const" not in key and not key.get("description")] == []
    assert keys["BoundsSpec", "step"]["description"].startswith("Length of the displacement of the features")
    assert keys["BoundsSpec", "step"]["default"] == 0.001
    assert keys["BoundsSpec", "shifts"]["default"] == ["jacobian"]
    assert keys["DpSgdSpec", "weight_decay"]["default"] == 0  # its own, not that of other trainings
    assert keys["AniSpec", "weight_decay"]["default"] == 0.0005
