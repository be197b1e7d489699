"""Pools and the selection in the configuration: what loads, and what is told of every mistake."""

import pytest

from mta.config.load import load
from mta.config.show import plain_settings, show
from mta.model.errors import ConfigError
from mta.policy.rules import UnknownVmta

BASE = """
[server]
hostname = "mta.example.com"
[[listener]]
address = "127.0.0.1:25"
relay_from = ["127.0.0.0/8"]
[vmta.a]
[vmta.b]
"""
POOL = "[pool.bulk]\nvmtas = { a = 3, b = 1 }\n"


@pytest.fixture
def read(tmp_path):
    def settings(text: str):
        file = tmp_path / "sluice.toml"
        file.write_text(text)
        return load(file)

    return settings


@pytest.fixture
def mistakes(read):
    def found(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [f"{each.key}: {each.text}" for each in caught.value.problems]

    return found


def test_a_pool_has_its_members_by_weight_and_may_be_the_default(read) -> None:
    settings = read(BASE + POOL + 'sticky = "job"\n[selection]\ndefault = "bulk"\n')
    pool = settings.pools["bulk"]
    assert (pool.members, pool.sticky) == ((("a", 3), ("b", 1)), "job")
    assert str(pool.place).endswith("sluice.toml [pool.bulk]")
    assert settings.selection.default == "bulk"
    assert show(settings)["pool.bulk"] == {"vmtas": "{ a = 3, b = 1 }", "sticky": '"job"'}
    assert plain_settings(settings)["pools"]["bulk"]["vmtas"] == {"a": 3, "b": 1}


def test_a_list_of_virtual_mtas_is_a_pool_of_equals(read) -> None:
    settings = read(BASE + '[pool.default]\nvmtas = ["a", "b"]\n')
    assert settings.pools["default"].members == (("a", 1), ("b", 1))
    assert settings.selection.default == "default"


def test_the_selection_keeps_the_order_of_its_senders(read) -> None:
    text = '[selection]\ndefault = "a"\nusers = { news = "bulk" }\n'
    text += 'senders = { "*@b.example" = "b", "*" = "bulk" }\n'
    selection = read(BASE + POOL + text).selection
    assert selection.users == {"news": "bulk"}
    assert selection.senders == (("*@b.example", "b"), ("*", "bulk"))


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "[pool.p]\nvmtas = { a = 1, bb = 1 }\n",
            "pool.p.vmtas: there is no [vmta.bb]; did you mean b?; add it, or take it out of the pool",
        ),
        (
            "[pool.p]\nvmtas = { a = 0 }\n",
            "pool.p.vmtas: the weight of a must be a whole number from 1 to 1000000; "
            "leave a virtual MTA out that is to get nothing",
        ),
        (
            "[pool.p]\nvmtas = {}\n",
            "pool.p.vmtas: must name virtual MTAs with their weights, like { a = 3, b = 1 }",
        ),
        (
            '[pool.p]\nvmtas = ["a", "a"]\n',
            "pool.p.vmtas: names a virtual MTA twice; give it a weight instead, like { a = 2, b = 1 }",
        ),
        ("[pool.p]\n", "pool.p.vmtas: must be set"),
        (
            "[pool.a]\nvmtas = { b = 1 }\n",
            "pool.a: [vmta.a] has this name already; a message could mean either: rename one",
        ),
        (
            "[pool.p]\nvmtas = { a = 1 }\n[pool.q]\nvmtas = { p = 1 }\n",
            "pool.q.vmtas: p is a pool; name the virtual MTAs that are in it",
        ),
        (
            "[pool.p]\nvmtas = { p = 1 }\n",
            "pool.p.vmtas: the pools go in a circle: p → p; name virtual MTAs",
        ),
        ("[pool.P]\nvmtas = { a = 1 }\n", "pool.P: a pool is named with a-z, 0-9, - and _, in"),
        ("[pool.p]\nvmtas = { a = 1 }\nsticky = 'user'\n", "pool.p.sticky: must be"),
    ],
)
def test_a_mistake_in_a_pool_is_told_with_what_to_do(mistakes, text: str, mistake: str) -> None:
    (found,) = mistakes(BASE + "[selection]\ndefault = 'a'\n" + text)
    assert found.startswith(mistake)


def test_pools_that_go_in_a_circle_are_told_at_each_of_them(mistakes) -> None:
    text = "[pool.p]\nvmtas = { q = 1 }\n[pool.q]\nvmtas = { p = 1 }\n"
    assert mistakes(BASE + "[selection]\ndefault = 'a'\n" + text) == [
        "pool.p.vmtas: the pools go in a circle: p → q → p; name virtual MTAs",
        "pool.q.vmtas: the pools go in a circle: q → p → q; name virtual MTAs",
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("default = 'c'", "selection.default"),
        ("default = 'a'\nusers = { x = 'c' }", "selection.users"),
        ("default = 'a'\nsenders = { '*' = 'c' }", "selection.senders"),
    ],
)
def test_the_selection_names_only_what_there_is(mistakes, text: str, key: str) -> None:
    (found,) = mistakes(BASE + "[selection]\n" + text)
    assert found == f"{key}: there is no [vmta.c] and no [pool.c]"


def test_a_listener_says_who_may_name_and_what_becomes_of_unknown_names(read, mistakes) -> None:
    text = BASE.replace("[vmta.a]", "vmta = 'bulk'\nunknown_vmta = 'ignore'\n[vmta.a]")
    listener = read(text + POOL).listeners[0]
    assert (listener.vmta, listener.unknown_vmta) == ("bulk", UnknownVmta.IGNORE)
    assert listener.vmta_header_from == ("*",)
    (found,) = mistakes(text.replace("vmta = 'bulk'", "vmta = 'a'\nvmta_header_from = ['x']"))
    assert found == "listener[1].vmta_header_from: there is no user x in auth_users"


SOURCE = "[selection]\ndefault = 'a'\n[source.crm]\n"


def test_sources_stand_in_the_order_of_the_file(read) -> None:
    text = (
        "users = ['crm']\nnotices = 'to:Ops@example.com'\n[source.a]\nnetworks = ['10.0.0.0/8']\n"
    )
    settings = read(BASE + SOURCE + text)
    first, second = settings.sources
    assert (first.name, first.users, first.notices) == ("crm", ("crm",), "to:Ops@example.com")
    assert (second.name, second.notices, second.notice_language) == ("a", "", "")
    shown = show(settings)["source.crm"]
    assert shown["users"] == '["crm"]'
    assert shown["notices"] == '"to:Ops@example.com"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("notices = 'send'", "say whose mail is meant"),
        ("users = ['x']\nnotices = 'yes'", 'must be "send", "never" or an address'),
        ("users = ['x']\nnotices = 'to:nobody'", "is no mail address"),
        ("users = ['x']\nnotices = 'to:a@b.example\\r\\nBcc: x@y.example'", "notices"),
        ("users = ['x']\nnotice_language = 'tlh'", 'there are no notices in "tlh", but in "de"'),
        ("senders = ['news']", "no pattern of senders"),
        ("networks = ['10.0.0.1/8']", "did you mean 10.0.0.0/8"),
    ],
)
def test_what_a_source_cannot_be_is_told(mistakes, text: str, words: str) -> None:
    (found,) = mistakes(BASE + SOURCE + text + "\n")
    assert words in str(found)


def test_the_operators_words_stand_above_ours(read, mistakes, tmp_path) -> None:
    texts = tmp_path / "notices"
    texts.mkdir()
    base = BASE.replace("[[listener]]", 'notice_texts = "notices"\n[[listener]]', 1)
    base += "[selection]\ndefault = 'a'\n"
    (found,) = mistakes(base)
    assert "holds no file like en.toml" in found
    (texts / "de.toml").write_text("opening = 'Hallo von {host}.'\n")
    wordings = read(base).wordings
    assert wordings["de"].opening == "Hallo von {host}."
    assert wordings["de"].failed.startswith("Die Nachricht")
    assert wordings["en"].opening == "This is the mail server {host}."
    (texts / "sv.toml").write_text("opening = 'Hej'\n")
    (texts / "fr.toml").write_bytes(b"\xff")
    assert len(mistakes(base)) == 2
