import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import BadConfig, NoRights
from agent.settings import Loaded, Span, load

LEAST = "engine: {kind: qdrant, url: 'http://127.0.0.1:6333'}\nlocations: {primary: {path: /backups}}\n"


def loaded(folder: Path, text: str, **options) -> Loaded:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load(str(path), environ={}, **options)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        loaded(folder, text)
    assert caught.value.exit_code == 65
    return [line.removeprefix(f"{folder}/config.yaml:") for line in caught.value.message.splitlines()]


def test_engine_and_locations_are_all_that_must_be_given(tmp_path):
    settings = loaded(tmp_path, LEAST).settings

    assert settings.state_dir == "/var/lib/snapward"
    assert settings.engine.url == "http://127.0.0.1:6333"
    assert settings.engine.deadline == 43_200.0
    assert settings.locations["primary"].path == "/backups"
    assert settings.tiers["monthly"].keep == Span(24, "mo")
    assert settings.permissions.files == 0o640
    assert settings.catch_up == 12 * 3600.0
    assert settings.logs.keep == 180 * 86400.0
    assert settings.notify.targets == {}


def test_given_values_replace_defaults_and_tiers_replace_all_tiers(tmp_path):
    text = LEAST + (
        "tiers: {hourly: {cron: '@hourly', keep: 24}}\n"
        "watch: {settle: 500ms, minimum_size: 10MB}\n"
        "alerts: {for: 5m, send_resolved: no}\n"
        "permissions: {files: 0600, folders: 0750}\n"
        "storage: {warn: 70, critical: 85.5%}\n"
    )
    settings = loaded(tmp_path, text).settings

    assert list(settings.tiers) == ["hourly"]
    assert settings.tiers["hourly"].cron == "0 * * * *"
    assert settings.tiers["hourly"].keep == 24
    assert (settings.watch.settle, settings.watch.minimum_size) == (0.5, 10_000_000)
    assert (settings.alerts.for_, settings.alerts.send_resolved) == (300.0, False)
    assert (settings.permissions.files, settings.permissions.folders) == (0o600, 0o750)
    assert (settings.storage.warn, settings.storage.critical, settings.storage.clear) == (70.0, 85.5, 2.0)


def test_the_path_is_the_argument_else_the_environment_else_the_usual_place(tmp_path):
    for name, parallel in (("argument", 3), ("variable", 4)):
        (tmp_path / name).write_text(f"{LEAST}parallel: {parallel}\n")
    environ = {"SNAPWARD_CONFIG": str(tmp_path / "variable")}

    assert load(str(tmp_path / "argument"), environ=environ).settings.parallel == 3
    assert load(environ=environ).settings.parallel == 4
    if not os.path.exists("/etc/snapward/config.yaml"):
        with pytest.raises(BadConfig, match=r"/etc/snapward/config\.yaml"):
            load(environ={"SNAPWARD_CONFIG": ""})


def test_a_relative_path_counts_from_the_folder_of_the_file(tmp_path):
    settings = loaded(tmp_path, "engine: {kind: edge, path: ./edge}\nlocations: {one: {path: ../backups/}}\n").settings

    assert settings.engine.path == str(tmp_path / "edge")
    assert settings.locations["one"].path == str(tmp_path.parent / "backups")


def test_every_value_knows_its_line(tmp_path):
    found = loaded(tmp_path, "# a comment\n" + LEAST + "notify:\n  targets:\n    ops:\n      url: console://\n")

    assert found.origins["engine.url"] == 2
    assert found.origins["notify.targets.ops.url"] == 7
    assert found.origins["notify.targets.ops.severity"] is None
    assert found.origins["tiers.daily.keep"] is None
    assert found.line("notify.targets.ops.url") == f"{tmp_path}/config.yaml:7"
    assert found.line("notify.targets.ops.severity") == f"{tmp_path}/config.yaml:6"
    assert found.line("tiers.daily.keep") == f"{tmp_path}/config.yaml"


def test_a_section_left_empty_counts_as_not_given(tmp_path):
    settings = loaded(tmp_path, LEAST + "watch:\nnotify:\n  targets:\n    # none yet\ntemplates:\n").settings

    assert settings.watch.settle == 2.0
    assert settings.notify.targets == {}
    assert settings.templates is None


def test_anchors_and_standard_tags_are_understood(tmp_path):
    text = (
        LEAST + "tiers:\n  daily: &usual {cron: '@daily', keep: 9}\n  spare: *usual\n"
        "timezone: !!str UTC\nwatch: &w {settle: 4s}\n"
    )
    settings = loaded(tmp_path, text).settings

    assert settings.tiers["spare"] == settings.tiers["daily"]
    assert settings.timezone == "UTC"


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path):
    text = (
        "engine:\n"
        "  kind: qdrant\n"
        "locations: {primary: {path: /backups, mont: /x}}\n"
        "tiers:\n"
        "  daily: {cron: '60 2 * * *', keep: 30x}\n"
        "paralel: 8\n"
        "storage: {warn: 90%, critical: 80%}\n"
    )
    assert mistakes(tmp_path, text) == [
        "1: engine: kind qdrant needs url",
        "3: locations.primary.mont: is not known; did you mean mount?",
        "5: tiers.daily.cron: '60' is not a minute in '60 2 * * *'; write 0-59",
        "5: tiers.daily.keep: '30x' is not a duration; write 30d, 12w or 24mo",
        "6: paralel: is not known; did you mean parallel?",
        "7: storage.warn: 90% is not below storage.critical, 80%",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("xyzzy: 1", "xyzzy: is not known; known here: state_dir, timezone, engine"),
        ("parallel: many", "parallel: 'many' is text, not a whole number from 1 to 64"),
        ("parallel: [8]", "parallel: is a list, but has to be a whole number from 1 to 64"),
        ("parallel: 0", "parallel: '0' is not a whole number from 1 to 64"),
        ("parallel: 010", "parallel: '010' is not a whole number"),
        ("parallel:", "parallel: is empty"),
        ("parallel: !python/object:os.system 8", "is of the kind '!python/object:os.system'"),
        ("catch_up: 12", "catch_up: '12' has no unit; write 30s, 5m"),
        ("catch_up: -1h", "catch_up: '-1h' is not a duration"),
        ("catch_up: 2026-11-23", "catch_up: '2026-11-23' is a date, not a duration"),
        ("alerts: {repeat_interval: 1s}", "alerts.repeat_interval: '1s' is too short; 1m is the least"),
        ("watch: {patterns: '*.gz'}", 'watch.patterns: is text, but has to be a list such as ["one", "two"]'),
        ("watch: {patterns: []}", "watch.patterns: is empty"),
        ("watch: {patterns: [a, b/c]}", "watch.patterns[1]: 'b/c' holds a '/'"),
        ("watch: {minimum_size: 1KX}", "watch.minimum_size: '1KX' is not a size; write 512, 1KiB or 10MB"),
        ("watch: 2s", "watch: is text, but has to be a mapping of patterns, settle, scan_every, minimum_size"),
        ("report: {}", "report.cron: is missing: when it runs"),
        ("pings: {agent: 'slack://a/b'}", "pings.agent: begins with slack://; a watcher's check has an http:// or"),
        ("pings: {jobs: {drill: 'ftp://a'}}", "pings.jobs.drill: begins with ftp://; a watcher's check has an http://"),
        ("pings: {agent: 5}", "pings.agent: is a number"),
        ("cleanup: {cron: '0 4 * *'}", "cleanup.cron: '0 4 * *' has 4 fields; write five"),
        ("cleanup: {cron: '@yearly'}", "cleanup.cron: '@yearly' is not known; write @hourly, @daily"),
        ("cleanup: {cron: '0 0 31 2 *'}", "cleanup.cron: '31' is not a day-of-month in '0 0 31 2 *'"),
        ("cleanup: {cron: '0 0 * * 9'}", "cleanup.cron: '9' is not a day-of-week in '0 0 * * 9'; write 0-7"),
        ("cleanup: {cron: '61 0 0 * * *'}", "cleanup.cron: '61' is not a second in '61 0 0 * * *'"),
        ("cleanup: {cron: '0 0 */31 2 2#5'}", "cleanup.cron: '0 0 */31 2 2#5' never comes"),
        ("tiers: {daily: {cron: '@daily'}}", "tiers.daily.keep: is missing"),
        ("tiers: {daily: {cron: '@daily', keep: 0d}}", "tiers.daily.keep: '0d' would keep nothing"),
        ("tiers: {manual: {cron: '@daily', keep: 1}}", "tiers.manual: is what snapward calls backups outside"),
        ("tiers: {a/b: {cron: '@daily', keep: 1}}", "tiers: 'a/b' cannot be a name here; write letters"),
        ("timezone: Berlin", "timezone: 'Berlin' is not a time zone; did you mean Europe/Berlin?"),
        ("timezone: Europe/Berln", "timezone: 'Europe/Berln' is not a time zone; did you mean Europe/Berlin"),
        ("timezone: ../../etc/passwd", "timezone: '../../etc/passwd' is not a time zone"),
        ("timezone: ${env:TZ}", "timezone: holds a '${', which is read only in engine.api_key, engine.env and"),
        ("permissions: {files: 0440}", "permissions.files: '0440' takes the owner's own rights away"),
        ("permissions: {folders: '799'}", "permissions.folders: '799' is not a file mode; write octal digits"),
        ("storage: {clear: 80%}", "storage.clear: 80% is not below storage.warn, 80%"),
        ("storage: {critical: 101%}", "storage.critical: '101%' is more than 100%"),
        ("logs: {format: jsn}", "logs.format: 'jsn' is not a word known here; write text or json"),
        ("alerts: {send_resolved: 'true'}", "alerts.send_resolved: 'true' is text, not a switch; write true or"),
        ("state_dir: ~/snapward", "state_dir: '~' means another folder for every user"),
        ('state_dir: "/x\\0"', "state_dir: holds a control character"),
        ("state_dir: ''", "state_dir: is empty"),
        ("? [a]\n: b", "a key must be a word"),
        ("<<: {parallel: 3}", "'<<' is not understood here"),
        ("timezone: *nowhere", "*nowhere is used before &nowhere is complete"),
        ("health: &a {every: *a}", "*a is used before &a is complete"),
        ("parallel: 1\nparallel: 2", "parallel: is written twice, first on line 3"),
        ("---\nparallel: 1", "a second document begins"),
    ],
)
def test_a_mistake_says_what_was_found_and_what_to_write(tmp_path, line, told):
    found = mistakes(tmp_path, LEAST + line + "\n")
    assert len(found) == 1
    assert told in found[0]
    assert found[0][0] in "345", "it names the line"


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("{url: 'http://x'}", "engine.kind: is missing"),
        ("{kind: postgres}", "engine.kind: 'postgres' is not a word known here; write qdrant, edge or command"),
        ("{kind: qdrant, url: localhost:6333}", "engine.url: is not the address of a server"),
        ("{kind: qdrant, url: 'http://me:hunter22@host'}", "engine.url: is not the address of a server"),
        ("{kind: qdrant, url: 'http://host:99999'}", "engine.url: is not the address of a server"),
        ("{kind: edge}", "engine: kind edge needs path"),
        ("{kind: edge, path: /e, api_key: k}", "engine.api_key: does not belong to kind edge, which takes path"),
        ("{kind: command, argv: []}", "engine: kind command needs argv"),
        ("{kind: command, argv: [run], env: {a-b: c}}", "engine.env: 'a-b' cannot be a name here"),
        ("{kind: command, argv: [run], collections: {}}", "engine.collections: does not belong to kind command"),
        ("[qdrant]", "engine: is a list, but has to be a mapping of kind, url"),
        ("", "engine: is empty, but has to be a mapping of kind, url"),
    ],
)
def test_an_engine_has_the_keys_of_its_kind_and_no_others(tmp_path, engine, told):
    found = mistakes(tmp_path, f"engine: {engine}\nlocations: {{primary: {{path: /backups}}}}\n")
    assert len(found) == 1
    assert told in found[0]
    assert "hunter22" not in found[0]


@pytest.mark.parametrize(
    ("locations", "rest", "told"),
    [
        ("{one: {path: /b}, two: {path: /b/}}", "", "locations.two.path: is the same folder as locations.one.path"),
        ("{one: {path: /b}, two: {path: /b/c}}", "", "locations.two.path: overlaps locations.one.path, /b/c lies"),
        ("{one: {path: /b/c}, two: {path: /b}}", "", "locations.two.path: overlaps locations.one.path, /b/c lies"),
        ("{one: {path: /b}}", "state_dir: /b/state", "state_dir: overlaps locations.one.path, /b/state lies in /b"),
        ("{one: {path: /b, mount: /mnt}}", "", "locations.one.mount: /b does not lie in /mnt"),
        ("{one: {path: /b/c}}", "engine: {kind: edge, path: /b}", "engine.path: overlaps locations.one.path"),
        ("{one: {path: /b}}", "engine: {kind: edge, path: /b/e}", "engine.path: overlaps locations.one.path"),
        ("{one: {path: /b}}", "engine: {kind: edge, path: /e, config_files: [/]}", "engine.config_files: overlaps"),
        ("{}", "", "locations: is empty: where backups lie"),
        ("{one: /b}", "", "locations.one: is text, but has to be a mapping of path, mount"),
        ("{'a:b': {path: /b}}", "", "locations: 'a:b' cannot be a name here"),
        ("{.incoming: {path: /b}}", "", "locations: '.incoming' cannot be a name here"),
    ],
)
def test_folders_that_would_disturb_each_other_are_refused(tmp_path, locations, rest, told):
    engine = "" if "engine" in rest else "engine: {kind: qdrant, url: 'http://x'}\n"
    found = mistakes(tmp_path, f"{engine}locations: {locations}\n{rest}\n")
    assert len(found) == 1
    assert told in found[0]


def test_overlap_is_seen_through_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = "engine: {kind: qdrant, url: 'http://x'}\nlocations: {one: {path: real}, two: {path: link/in}}\n"

    assert "overlaps locations.one.path" in mistakes(tmp_path, text)[0]
    assert loaded(tmp_path, text, thorough=False).settings.locations


def test_folders_beside_each_other_with_the_same_beginning_are_apart(tmp_path):
    text = (
        "engine: {kind: qdrant, url: 'http://x'}\nlocations: {one: {path: /b}, two: {path: /bc}}\nstate_dir: /b-state\n"
    )
    assert loaded(tmp_path, text).settings.state_dir == "/b-state"


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        ("{a: {url: 'x://y', fallback: b}}", "notify.targets.a.fallback: 'b' is no target; there are a"),
        ("{a: {url: 'x://y', fallback: a}}", "notify.targets.a.fallback: names the target itself"),
        (
            "{a: {url: 'x://y', fallback: b}, b: {url: 'x://y', fallback: c}, c: {url: 'x://y', fallback: b}}",
            "notify.targets.b.fallback: leads in a circle: b -> c -> b",
        ),
        ("{a: {url: nothing}}", "notify.targets.a.url: is not a URL as apprise knows them"),
        ("{a: {url: 'x://y', severity: info}}", "severity: 'info' is not a word known here; write warning or critical"),
        ("{a: {severity: warning}}", "notify.targets.a.url: is missing"),
    ],
)
def test_targets_and_their_fallbacks_must_fit(tmp_path, targets, told):
    found = mistakes(tmp_path, f"{LEAST}notify: {{targets: {targets}}}\n")
    assert len(found) == 1
    assert told in found[0]


def test_a_missing_file_is_answered_with_the_way_to_get_one(tmp_path):
    with pytest.raises(BadConfig) as caught:
        load(str(tmp_path / "none.yaml"))
    assert "there is no" in caught.value.message
    assert "snapward config example" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_matter_of_rights(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(LEAST)
    path.chmod(0)
    with pytest.raises(NoRights):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n", "holds no keys"),
        (b"text\n", "holds no keys"),
        (b"a: [\n", "config.yaml:2: not YAML: while parsing a flow node"),
        (b"a: b: c\n", "config.yaml:1: not YAML: mapping values are not allowed"),
        (b"a:\n\tb: c\n", "config.yaml:2: not YAML: while scanning"),
        (b"a: 1\nb: \xff\n", "config.yaml:2: is not text in UTF-8"),
        (b"a: \0\n", "not YAML: control characters are not allowed"),
        (b"a: " + b"[" * 100_000, "nested too deeply"),
        (b"a: &a\n " + b"? " * 50_000, "nested too deeply"),
        (b"# " + b"x" * 300_000, "is larger than 262144 bytes"),
    ],
)
def test_what_is_no_configuration_is_refused_with_the_reason(tmp_path, content, told):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(BadConfig) as caught:
        load(str(path))
    assert told in caught.value.message


def test_aliases_of_aliases_do_not_grow_without_end(tmp_path):
    tenfold = "\n".join(f"  a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 7))
    found = mistakes(tmp_path, f"{LEAST}bomb:\n  a0: &a0 [x]\n{tenfold}\n")
    assert found[0].startswith("3: bomb: is not known")


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    text = "\ufeff" + LEAST.replace("\n", "\r\n") + "parallel: 3\r\n"
    assert loaded(tmp_path, text).origins["parallel"] == 3


def test_a_quick_load_leaves_out_what_is_dear(tmp_path):
    (tmp_path / "config.yaml").write_text(LEAST + "cleanup: {cron: '99 4 * * *'}\n")
    script = (
        "import sys\n"
        "from agent.settings import load\n"
        "assert 'yaml' not in sys.modules\n"
        "load(sys.argv[1], thorough=False)\n"
        "print(sorted({'cronsim', 'difflib', 'apprise', 'json'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "config.yaml")], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
