import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.settings import Secret, check_secrets, load, masked_url, rows, secrets_of

LEAST = "engine: {kind: qdrant, url: 'http://127.0.0.1:6333'}\nlocations: {primary: {path: /backups}}\n"


def loaded(folder: Path, text: str, mode: int = 0o640):
    path = folder / "config.yaml"
    path.write_text(text)
    path.chmod(mode)
    return load(str(path), environ={})


def with_url(folder: Path, url: str):
    return loaded(folder, f"{LEAST}notify: {{targets: {{ops: {{url: '{url}'}}}}}}\n").settings


def test_references_are_followed_wherever_they_stand(tmp_path):
    (tmp_path / "password").write_text("from-file\n")
    (tmp_path / "token").write_text("from-credential\r\n")
    environ = {"USER_NAME": "from-env", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    secret = Secret(f"mailtos://${{env:USER_NAME}}:${{file:{tmp_path}/password}}@host?token=${{credential:token}}")

    assert secret.reveal(environ) == "mailtos://from-env:from-file@host?token=from-credential"


def test_only_one_newline_is_taken_from_a_file(tmp_path):
    (tmp_path / "key").write_text(" a b \n\n")
    assert Secret(f"${{file:{tmp_path}/key}}").reveal() == " a b \n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("$${env:X}", "${env:X}"),
        ("a$${b", "a${b"),
        ("$5 {x} $$", "$5 {x} $$"),
        ("$$${env:X}", "$${env:X}"),
    ],
)
def test_a_doubled_dollar_keeps_a_reference_from_being_one(text, value):
    assert Secret(text).reveal({}) == value


@pytest.mark.parametrize(
    "text",
    [
        *("${X}", "${env:}", "${env:A-B}", "${env:X", "${file:relative}", "${credential:../x}", "${credential:a/b}"),
        *("${credential:..}", "${vault:x}", "x${", "${}"),
    ],
)
def test_a_reference_that_cannot_be_one_is_refused(text):
    with pytest.raises(ValueError, match=r"reference|path|variable|credential"):
        Secret(text)


def test_a_reference_that_leads_nowhere_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("x" * 70_000)
    wrong = {
        "env:NOT_THERE": "is not set in the environment",
        "credential:key": "needs $CREDENTIALS_DIRECTORY",
        f"file:{tmp_path}/none": "No such file",
        f"file:{tmp_path}": "Is a directory",
        f"file:{tmp_path}/pipe": "is not a plain file",
        f"file:{tmp_path}/empty": "is empty",
        f"file:{tmp_path}/binary": "is not text in UTF-8",
        f"file:{tmp_path}/large": "is larger than",
    }
    for reference, why in wrong.items():
        with pytest.raises(BadConfig) as caught:
            Secret(f"a${{{reference}}}b").reveal({})
        assert f"${{{reference}}} cannot be read: " in caught.value.message
        assert why in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hunter22", "***"),
        ("${env:TOKEN}", "${env:TOKEN}"),
        ("${env:USER}${env:TOKEN}", "${env:USER}${env:TOKEN}"),
        ("prefix-${env:TOKEN}", "***"),
        ("$${", "***"),
    ],
)
def test_a_printed_secret_shows_references_and_nothing_else(text, shown):
    secret = Secret(text)
    assert str(secret) == f"{secret}" == shown
    assert repr(secret) == f"Secret({shown!r})"


@given(st.text("0123456789", min_size=1))
def test_no_way_of_printing_shows_the_value(text):
    secret = Secret(text)
    for shown in (str(secret), f"{secret!r}", f"{secret}", repr({"x": [secret]}), masked_url(secret)):
        assert text not in shown


def test_a_masked_url_shows_its_service():
    assert masked_url(Secret("slack://T1/B2/c3")) == "slack://***"
    assert masked_url(Secret("json+x://h/${env:T}")) == "json+x://***"
    assert masked_url(Secret("${env:URL}")) == "${env:URL}"
    assert masked_url(Secret("no url")) == "***"


def test_secrets_are_masked_where_the_configuration_is_shown(tmp_path):
    text = LEAST.replace("'}", "', api_key: hunter22}") + "notify: {targets: {ops: {url: 'slack://T0KEN/x'}}}\n"
    found = loaded(tmp_path, text)

    shown = {key: value for key, value, _ in rows(found)}
    assert shown["engine.api_key"] == "***"
    assert shown["notify.targets.ops.url"] == "slack://***"
    for print_of in (repr(found), str(found.settings), repr(rows(found))):
        assert "hunter22" not in print_of
        assert "T0KEN" not in print_of


def test_what_a_log_must_not_hold_is_collected_from_urls(tmp_path):
    url = "mailtos://backup:p%40ssword-1@mail.example.com/to-path-2?smtp=smtp.example.com&pass=query-3&+X-Api=head-4"
    found = secrets_of(with_url(tmp_path, url), {})

    assert sorted(found, key=len, reverse=True) == found, "the longest first, so that it is replaced as a whole"
    assert {url, "p%40ssword-1", "p@ssword-1", "to-path-2", "query-3", "head-4"} <= set(found)
    assert not {"backup", "mail.example.com", "smtp.example.com", "mailtos"} & set(found)


@pytest.mark.parametrize(
    ("url", "hidden", "open_words"),
    [
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr/#ops-channel",
            {"T1JJ3T3L2", "TIiajkdnlazkcOXr"},
            {"#ops-channel"},
        ),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", {"123456789:abcdefg_hijklmnop", "abcdefg_hijklmnop"}, set()),
        ("https://hooks.slack.com/services/T1JJ3T3L2/x", {"T1JJ3T3L2"}, {"services", "hooks.slack.com"}),
        ("json://user:hunter22@backupserver:8080/hook", {"hunter22"}, {"backupserver", "8080", "hook"}),
        ("json://[::1]:80/hunter22?token=to[ken]", {"hunter22", "to[ken]"}, {"[::1]"}),
    ],
)
def test_tokens_are_hidden_and_hosts_are_not(tmp_path, url, hidden, open_words):
    found = set(secrets_of(with_url(tmp_path, url), {}))
    assert hidden | {url} <= found
    assert not open_words & found


def test_console_is_no_secret(tmp_path):
    assert secrets_of(with_url(tmp_path, "console://"), {}) == []


def test_what_a_reference_leads_to_is_hidden_and_what_cannot_be_read_is_left_out(tmp_path):
    text = (
        "engine: {kind: command, argv: [run], env: {KEY: literal1, MODE: nightly, A: '${env:PLACE}', B: '${env:NO}'}}\n"
        "locations: {primary: {path: /backups}}\n"
        "notify: {targets: {ops: {url: 'slack://${env:ONE}/${env:NO}'}}}\n"
    )
    found = secrets_of(loaded(tmp_path, text).settings, {"ONE": "token/1", "PLACE": "/somewhere"})

    assert {"token/1", "token%2F1", "literal1", "/somewhere"} <= set(found)
    assert "nightly" not in found


def test_all_secrets_that_cannot_be_read_are_told_at_once(tmp_path):
    text = (
        "engine:\n  kind: qdrant\n  url: http://127.0.0.1:6333\n  api_key: ${env:KEY}\n"
        "locations: {primary: {path: /backups}}\n"
        "notify:\n  targets:\n    ops: {url: '${file:/none}'}\n    me: {url: 'x://${env:GOOD}'}\n"
    )
    found = loaded(tmp_path, text)
    with pytest.raises(BadConfig) as caught:
        check_secrets(found, {"GOOD": "value"})

    path = tmp_path / "config.yaml"
    assert caught.value.message.splitlines() == [
        f"{path}:4: engine.api_key: ${{env:KEY}} cannot be read: is not set in the environment",
        f"{path}:8: notify.targets.ops.url: ${{file:/none}} cannot be read: /none: No such file or directory",
    ]
    assert "set KEY" in caught.value.hint


def test_secrets_that_can_be_read_pass(tmp_path):
    check_secrets(loaded(tmp_path, LEAST), {})


@pytest.mark.parametrize(
    ("rest", "warned"),
    [
        ("notify: {targets: {ops: {url: 'slack://T1JJ3T3L2/x'}}}", "notify.targets.ops.url (line 3)"),
        ("notify: {targets: {ops: {url: 'mailto://me:pw@host'}}}", "notify.targets.ops.url (line 3)"),
        ("notify: {targets: {ops: {url: 'slack://${env:T}'}}}", ""),
        ("notify: {targets: {ops: {url: 'console://'}}}", ""),
        ("notify: {targets: {ops: {url: 'json://localhost:80/hook'}}}", ""),
    ],
)
def test_a_file_that_everybody_can_read_should_not_hold_secrets(tmp_path, rest, warned):
    found = loaded(tmp_path, LEAST + rest + "\n", 0o644)
    assert len(found.warnings) == bool(warned)
    assert warned in "".join(found.warnings)
    assert "T1JJ3T3L2" not in "".join(found.warnings)
    assert loaded(tmp_path, LEAST + rest + "\n", 0o640).warnings == []


def test_a_secret_of_the_wrong_kind_is_not_repeated(tmp_path):
    for wrong in ("api_key: 1234567890", "api_key: [hunter22]", "api_key: 'hunter22 ${x}'"):
        with pytest.raises(BadConfig) as caught:
            loaded(tmp_path, LEAST.replace("'}", "', " + wrong + "}"))
        assert "engine.api_key: " in caught.value.message
        assert "hunter22" not in caught.value.message
        assert "1234567890" not in caught.value.message
