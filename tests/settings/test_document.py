import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.settings import Loaded, example, load
from agent.settings.document import parse

EXAMPLE = example()
# What makes YAML difficult, and what makes this configuration difficult.
PIECES = st.one_of(
    st.sampled_from(list("\t\n :-?[]{}&*!|>'\"%@`#,\\$~<")),
    st.sampled_from(
        ["\n- ", ": ", "&a ", "*a", "<<: ", "!!binary ", "!x ", "|\n ", "? ", "---\n", "...\n", "${env:", "null"]
    ),
    st.sampled_from(['"\\0"', '"\\UFFFFFFFF"', '"\\ud800"', "\x00", "\x7f", "\ufeff", "\u2028", "😀", "٣", "9" * 5000]),
    st.text(max_size=5),
)


def no_mistake(line: int, key: str, what: str) -> None:
    raise AssertionError((line, key, what))


def test_the_c_and_the_python_loader_read_the_same():
    trees = [parse(EXAMPLE, "example", no_mistake, kind) for kind in (yaml.CSafeLoader, yaml.SafeLoader)]
    assert trees[0] == trees[1]


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', "a: \0", "a: [", "%YAML 9.9\n--- a"])
def test_either_loader_refuses_what_is_no_yaml(text):
    for kind in (yaml.CSafeLoader, yaml.SafeLoader):
        with pytest.raises(BadConfig, match="not YAML"):
            parse(text, "example", no_mistake, kind)


def outcome(folder, content: bytes) -> Loaded | BadConfig:
    path = folder / "config.yaml"
    path.write_bytes(content)
    try:
        return load(str(path), environ={})
    except BadConfig as error:
        return error


@given(st.data())
def test_a_changed_example_loads_or_is_refused(tmp_path_factory, data):
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 30)))
        text = text[:start] + data.draw(PIECES) + text[end:]
    found = outcome(tmp_path_factory.getbasetemp(), text.encode("utf-8", "surrogatepass"))
    assert isinstance(found, Loaded) or found.message


@given(st.integers(0, len(EXAMPLE.encode())), st.binary(max_size=8))
def test_changed_bytes_load_or_are_refused(tmp_path_factory, start, piece):
    content = EXAMPLE.encode()
    found = outcome(tmp_path_factory.getbasetemp(), content[:start] + piece + content[start + len(piece) :])
    assert isinstance(found, Loaded) or found.message


@given(
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=3)
        ),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(
        ["engine", "locations", "tiers", "watch", "notify", "storage", "permissions", "parallel", "templates"]
    ),
)
def test_any_value_in_any_place_loads_or_is_refused(tmp_path_factory, value, key):
    text = yaml.safe_dump({"engine": {"kind": "edge", "path": "/e"}, "locations": {"one": {"path": "/b"}}, key: value})
    found = outcome(tmp_path_factory.getbasetemp(), text.encode())
    assert isinstance(found, Loaded) or found.message
