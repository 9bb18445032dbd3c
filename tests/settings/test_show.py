import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from agent.errors import BadConfig
from agent.files import shipped as shipped_files
from agent.settings import Loaded, Settings, check_secrets, example, load, rows, schema
from agent.settings.document import parse
from agent.settings.keys import keys, leaves
from agent.settings.tree import Branch, Items, Leaf, Node

CONFIG = shipped_files("config")


@pytest.fixture
def shipped(tmp_path: Path) -> Loaded:
    path = tmp_path / "config.yaml"
    path.write_text(example())
    return load(str(path), environ={})


def sections(section: type[Struct]):
    yield section
    for key in keys(section):
        if key.section:
            yield from sections(key.section)


def no_mistake(line: int, key: str, what: str) -> None:
    raise AssertionError((line, key, what))


def plain(node: Node | None) -> Any:
    """Return the tree as JSON would hold it."""
    if isinstance(node, Branch):
        return {name: plain(inner) for name, (_, inner) in node.entries.items()}
    if isinstance(node, Items):
        return [plain(inner) for inner in node.items]
    assert isinstance(node, Leaf)
    ways = {"int": int, "float": float, "bool": lambda text: text == "true", "null": lambda _: None}
    return ways.get(node.kind, str)(node.text)


def parsed(text: str) -> Any:
    return plain(parse(text, "example", no_mistake))


def all_taken(text: str) -> str:
    """Return the example with every choice taken that it shows as not taken."""
    return re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", text, flags=re.MULTILINE)


def valid(value: Any, rule: Any) -> bool:
    """Whether `value` satisfies `rule`: the part of JSON Schema that the schema is made of."""
    if isinstance(rule, bool):
        return rule
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    checks = {
        "type": lambda kind: (
            (isinstance(value, (int, float) if kind == "number" else int) and not isinstance(value, bool))
            if kind in {"integer", "number"}
            else isinstance(value, kinds[kind])
        ),
        "enum": lambda words: value in words,
        "const": lambda word: value == word,
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "minLength": lambda least: not isinstance(value, str) or len(value) >= least,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "minItems": lambda least: len(value) >= least,
        "maxItems": lambda most: len(value) <= most,
        "minProperties": lambda least: len(value) >= least,
        "maxProperties": lambda most: len(value) <= most,
        "items": lambda inner: all(valid(item, inner) for item in value),
        "anyOf": lambda inner: any(valid(value, one) for one in inner),
        "allOf": lambda inner: all(valid(value, one) for one in inner),
        "not": lambda inner: not valid(value, inner),
        "required": lambda names: all(name in value for name in names),
        "propertyNames": lambda inner: all(valid(name, inner) for name in value),
        "properties": lambda inner: all(valid(value[name], one) for name, one in inner.items() if name in value),
        "patternProperties": lambda inner: all(
            valid(item, one)
            for name, item in value.items()
            for pattern, one in inner.items()
            if re.search(pattern, name)
        ),
        "additionalProperties": lambda _: all(
            name in rule.get("properties", {}) or any(re.search(one, name) for one in rule.get("patternProperties", {}))
            for name in value
        ),
        "if": lambda inner: not valid(value, inner) or valid(value, rule["then"]),
    }
    said = {"$schema", "title", "description", "default", "then"}
    order = sorted(rule.keys() - said, key=lambda name: name != "type")
    return all(checks[name](rule[name]) for name in order)


def test_the_example_loads_and_its_secrets_can_be_given(shipped, tmp_path):
    assert shipped.settings.locations.keys() == {"primary", "secondary"}
    assert shipped.warnings == []
    for name in ("qdrant-api-key", "slack-url", "mail-url"):
        (tmp_path / name).write_text("secret\n")
    check_secrets(shipped, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_the_example_points_editors_to_the_schema():
    assert example().startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_example_shows_every_key_and_the_schema_knows_no_other():
    def known(section: type[Struct], value: Any, where: str):
        for key in keys(section):
            spot = f"{where}{key.name}"
            assert key.name in value, f"{spot} is missing in the example"
            if key.section and key.many == "map":
                for name, inner in value[key.name].items():
                    optional = {inner_key.name for inner_key in keys(key.section) if not inner_key.required}
                    assert inner.keys() >= {one.name for one in keys(key.section)} - optional, f"{spot}.{name}"
                shown = {name for inner in value[key.name].values() for name in inner}
                assert shown == {one.name for one in keys(key.section)}
            elif key.section:
                known(key.section, value[key.name], f"{spot}.")

    known(Settings, parsed(all_taken(example())), "")


def test_the_example_shows_the_defaults(shipped):
    least = load_text(shipped, "engine: {kind: qdrant, url: 'http://x'}\nlocations: {primary: {path: /b}}\n")
    shown = {key: value for key, _, value in leaves(shipped.settings)}
    chosen = {"engine.api_key", "engine.config_files", "locations.primary.mount", "notify.targets"}
    defaults = {key: value for key, _, value in leaves(least.settings) if least.origins[key] is None}

    assert {key: shown.get(key) for key in defaults.keys() - chosen} == {
        key: value for key, value in defaults.items() if key not in chosen
    }
    assert len(defaults) > 30


def load_text(shipped: Loaded, text: str) -> Loaded:
    path = Path(shipped.path).with_name("other.yaml")
    path.write_text(text)
    return load(str(path), environ={})


def test_the_published_schema_is_the_one_of_the_code():
    published = json.loads((CONFIG / "schema.json").read_text())
    assert published == schema(), "write it anew: snapward config schema > config/schema.json"


def test_every_key_is_explained():
    for section in sections(Settings):
        assert section.__doc__
        for key in keys(section):
            assert key.about, f"{section.__name__}.{key.field}"


def test_the_schema_accepts_the_example():
    assert valid(parsed(example()), schema())


ENGINE = "engine: {kind: qdrant, url: 'http://127.0.0.1:6333'}\n"
LOCATIONS = "locations: {primary: {path: /backups}}\n"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (ENGINE + LOCATIONS, True),
        ("engine: {kind: command, argv: [a], env: {A: b}}\n" + LOCATIONS, True),
        ("engine: {kind: edge, path: /e, deadline: 1h}\n" + LOCATIONS, True),
        (ENGINE, False),
        (LOCATIONS, False),
        (ENGINE + "locations: {}", False),
        (ENGINE + "locations: {'a/b': {path: /b}}", False),
        ("engine: {kind: edge}\n" + LOCATIONS, False),
        ("engine: {kind: edge, path: /e, url: 'http://x'}\n" + LOCATIONS, False),
        ("engine: {kind: other}\n" + LOCATIONS, False),
        *[
            (ENGINE + LOCATIONS + line, good)
            for line, good in [
                ("watch:", True),
                ("watch: {settle: 2s, minimum_size: 10MB, patterns: [a]}", True),
                ("watch: {minimum_size: 512}", True),
                ("watch: {settle: 2}", False),
                ("watch: {settle: 2 years}", False),
                ("watch: {patterns: []}", False),
                ("watch: {patterns: [a/b]}", False),
                ("watch: {unknown: 1}", False),
                ("parallel: 8", True),
                ("parallel: 0", False),
                ("parallel: '8'", False),
                ("parallel:", False),
                ("tiers: {own: {cron: '@daily', keep: 3}}", True),
                ("tiers: {own: {cron: '0 4 * * *', keep: 3mo}}", True),
                ("tiers: {own: {cron: '0 4 * *', keep: 3mo}}", False),
                ("tiers: {own: {cron: '@daily', keep: 3x}}", False),
                ("tiers: {own: {cron: '@daily', keep: 0}}", False),
                ("tiers: {own: {cron: '@daily'}}", False),
                ("tiers: {manual: {cron: '@daily', keep: 1}}", False),
                ("permissions: {files: 640, owner: null}", True),
                ("permissions: {files: '899'}", False),
                ("storage: {warn: 70, critical: 80.5%}", True),
                ("storage: {warn: 70x}", False),
                ("alerts: {send_resolved: false, for: 5m}", True),
                ("alerts: {send_resolved: 'no'}", False),
                ("logs: {format: xml}", False),
                ("timezone: Europe/Berlin", True),
                ("timezone: 'Europe Berlin'", False),
                ("notify: {targets: {}}", True),
                ("notify: {targets: }", True),
                ("notify: {targets: {a: {url: 'x://y', reports: true}}}", True),
                ("notify: {targets: {a: {url: y}}}", False),
                ("notify: {targets: {a: {severity: warning}}}", False),
            ]
        ],
    ],
)
def test_the_schema_and_the_program_agree(tmp_path, text, good):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    try:
        load(str(path), environ={})
    except BadConfig:
        loads = False
    else:
        loads = True
    assert (loads, valid(parsed(text), schema())) == (good, good)


def test_rows_give_every_value_with_its_origin(shipped):
    found = {key: (value, origin) for key, value, origin in rows(shipped)}
    lines = example().splitlines()

    assert found["tiers.daily.keep"][0] == "30d"
    assert found["permissions.files"][0] == "640"
    assert found["watch.patterns"][0] == "[*.snapshot, *.snapshot.gz, *.snapshot.zst, *.tar.gz, *.tgz]"
    assert found["alerts.send_resolved"][0] == "true"
    assert found["notify.targets.ops-chat.fallback"][0] == "null"
    assert found["engine.api_key"][0] == "${credential:qdrant-api-key}"
    assert "engine.argv" not in found, "a key of another kind of engine"
    for key, (_, origin) in found.items():
        name, _, line = origin.partition(":")
        if name == "default":
            assert f"#{key.rpartition('.')[2]}:" in example(), "it is shown as a choice not taken"
            continue
        assert name == "config.yaml"
        assert key.rpartition(".")[2] in lines[int(line) - 1]


def test_rows_tell_defaults(shipped):
    found = rows(load_text(shipped, "engine: {kind: edge, path: /e}\nlocations: {one: {path: /b}}\n"))
    assert ("engine.path", "/e", "other.yaml:1") in found
    assert ("watch.settle", "2s", "default") in found
    assert ("notify.targets", "{}", "default") in found
    assert ("tiers.monthly.keep", "24mo", "default") in found
