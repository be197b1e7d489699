"""Loading the configuration: what it becomes, and that every mistake is told at once, with its place."""

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from mta.config.load import Settings, load
from mta.config.schema import QueueSection, TimeoutsSection
from mta.model.envelope import QueueKey
from mta.model.errors import ConfigError
from mta.model.units import Rate
from mta.policy.rules import ListenerTls, QueuePolicy, Tls
from mta.smtp.steps import Step

SERVER = """
[server]
hostname = "mta.example.com"
spool_dir = "spool"
"""
LISTENER = """
[[listener]]
address = "127.0.0.1:2525"
relay_from = ["127.0.0.0/8"]
"""
# The form of the issue, less what needs files.
ISSUE = """
[server]
hostname = "mta.example.com"
spool_dir = "/var/spool/sluice"
workers = 1
control_socket = "/run/sluice/control.sock"
lab = false                      # true: loopback only, no licence needed
total_connections = 2000
min_free = "10%"

[[listener]]
address = "127.0.0.1:2525"
relay_from = ["127.0.0.0/8"]

[dns]
servers = ["127.0.0.1:5353"]

[vmta.a]
source_addresses = ["192.0.2.10", "2001:db8::10"]
ehlo_name = "a.mta.example.com"
total_connections = 200

[site.google]
mx = ["*.google.com", "*.googlemail.com"]
max_connections = 20

[default]
max_connections = 10
message_rate = "600/min"
retry = ["10m", "20m", "1h"]
expire_after = "4d12h"
# hosts = ["127.0.0.1:2600"]     # instead of MX

[domain."example.net"]
tls = "require"

[accounting.main]
path = "/var/log/sluice/acct.csv"
records = ["d", "b"]
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes `sluice.toml` and other files; gives the path of the first."""

    def writer(text: str, **others: str) -> Path:
        for name, content in others.items():
            file = tmp_path / name.replace("__", "/")
            file = file.with_name(file.name + ".toml")
            file.parent.mkdir(exist_ok=True)
            file.write_text(content, "utf-8")
        main = tmp_path / "sluice.toml"
        main.write_text(text, "utf-8")
        return main

    return writer


def mistakes(path: Path) -> list[str]:
    """The mistakes as `key: text`."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [f"{problem.key}: {problem.text}" for problem in caught.value.problems]


def the_mistake(path: Path) -> str:
    found = mistakes(path)
    assert len(found) == 1, found
    return found[0]


def test_the_form_of_the_issue_loads(write) -> None:
    settings = load(write(ISSUE))
    server, (listener,) = settings.server, settings.listeners
    assert (server.hostname, server.total_connections) == ("mta.example.com", 2000)
    assert isinstance(server.min_free, float)
    assert server.dns_servers == ("127.0.0.1:5353",)
    assert listener.relay_from == (ip_network("127.0.0.0/8"),)
    assert (settings.selection.default, listener.tls) == ("a", ListenerTls.NONE)
    vmta = settings.vmtas["a"]
    assert (vmta.source_v4, vmta.source_v6) == (("192.0.2.10",), ("2001:db8::10",))
    assert (vmta.ehlo_name, vmta.total_connections) == ("a.mta.example.com", 200)
    assert settings.accounting[0].path == "/var/log/sluice/acct.csv"
    policy = settings.book.policy(QueueKey("example.net", "a"), "google")
    assert (policy.max_connections, policy.message_rate) == (20, Rate(600, 60.0))
    assert (policy.retry, policy.expire_after) == ((600.0, 1200.0, 3600.0), 388_800.0)
    assert policy.tls is Tls.REQUIRE
    assert str(policy.places["tls"]).endswith('sluice.toml [domain."example.net"]')


def test_a_hostname_and_a_listener_are_enough_and_the_rest_is_safe(write) -> None:
    settings = load(
        write('[server]\nhostname = "mta.example.com"\n[[listener]]\naddress = "0.0.0.0:25"')
    )
    (listener,) = settings.listeners
    assert listener.relay_from == ()
    assert (listener.vmta, settings.selection.default) == ("", "default")
    assert list(settings.vmtas) == ["default"]
    assert [w.text for w in settings.warnings if w.key.startswith("listener")] == [
        "nobody may send here: set relay_from, auth_users or relay_certificates"
    ]


def test_every_key_of_queues_is_a_field_of_their_policy_and_every_step_has_a_timeout() -> None:
    policy_fields = {field.name for field in fields(QueuePolicy)}
    assert set(QueueSection.model_fields) <= policy_fields
    configurable = {step.name.lower() for step in Step} - {"idle"}
    assert set(TimeoutsSection.model_fields) == configurable


def test_included_files_add_up_and_name_themselves_as_places(write) -> None:
    path = write(
        'include = ["conf.d/*.toml"]' + SERVER + LISTENER + "[default]\nport = 26\n[vmta.a]\n",
        conf_d__b='[site.google]\nmx = ["*.google.com"]\n[vmta.a.site.google]\nport = 28',
        conf_d__a='[[listener]]\naddress = "[::1]:25"\n[domain."GMAIL.com"]\nport = 27',
    )
    path.parent.joinpath("conf_d").rename(path.parent / "conf.d")
    settings = load(path)
    assert [rules.address for rules in settings.listeners] == ["127.0.0.1:2525", "[::1]:25"]
    book = settings.book
    in_domain = book.policy(QueueKey("gmail.com", "a"), "google")
    assert str(in_domain.places["port"]) == 'conf.d/a.toml [domain."GMAIL.com"]'
    in_site = book.policy(QueueKey("other.example", "a"), "google")
    assert str(in_site.places["port"]) == "conf.d/b.toml [vmta.a.site.google]"


def test_a_table_in_two_files_is_a_mistake_but_tables_within_it_may_stand_elsewhere(write) -> None:
    path = write(
        'include = ["b.toml", "c.toml"]' + SERVER + "[vmta.a]\nport = 1\n[default]\nport = 2",
        b="[vmta.a.timeouts]\nmail = '1m'\n[vmta.a.domain.'x.example']\nport = 3",
        c="[vmta.a]\nmax_connections = 5\n\n[default]\nport = 4",
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [(p.file, p.key, p.line) for p in caught.value.problems] == [
        ("c.toml", "vmta.a", 1),
        ("c.toml", "default", 4),
    ]
    assert "sluice.toml already" in caught.value.problems[0].text


def test_an_included_file_that_is_named_must_exist_and_may_not_include(write) -> None:
    path = write(
        'include = ["b.toml", "gone.toml", "none.d/*.toml"]' + SERVER, b='include = ["c.toml"]'
    )
    assert mistakes(path) == [
        "include: only the main file may include others",
        "include: there is no file 'gone.toml'",
    ]


def test_a_file_that_is_no_toml_is_told_with_its_line(write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sluice\.toml:3: is no valid TOML") as caught:
        load(write("[server]\nhostname = 'x'\nport 25\n"))
    assert caught.value.problems[0].line == 3
    (tmp_path / "sluice.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "sluice.toml")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_all_mistakes_are_told_at_once_with_file_line_and_key(write) -> None:
    path = write(
        """\
[server]
hostnam = "mta.example.com"
total_connections = 0
lab = "yes"

[[listener]]
address = "127.0.0.1:2525"
relay_from = ["10.0.0.1/8"]
tls = "maybe"
vmta = "b"

[vmta.a]
source_addresses = ["localhost"]
max_conections = 5

[default]
retry = ["10m", "soon", "1h", 7, -1]
hosts = "mx.example.com"
total_message_rate = "10/s"
timeouts = { mial = "5m" }
message_rate = 600

[site.google]
max_connections = 5

[vmta.a.site.gogle]
port = 99999

[domain."-bad-.example"]
port = 25

[acounting.main]
path = "x"
"""
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    found = {problem.key: (problem.line, problem.text) for problem in caught.value.problems}
    assert found == {
        "acounting": (32, "unknown key; did you mean accounting?"),
        "server.hostname": (1, "must be set"),
        "server.hostnam": (2, "unknown key; did you mean hostname?"),
        "server.total_connections": (3, "must be 1 or more; to stop mail, pause the queue instead"),
        "server.lab": (4, "must be true or false"),
        "listener[1].relay_from[1]": (
            8,
            "'10.0.0.1/8' has bits beyond its prefix; did you mean 10.0.0.0/8?",
        ),
        "listener[1].tls": (9, 'must be "none", "starttls" or "implicit"'),
        "listener[1].vmta": (10, "there is no [vmta.b] and no [pool.b]"),
        "vmta.a.source_addresses[1]": (
            13,
            "'localhost' is no IP address; a name does not do here",
        ),
        "vmta.a.max_conections": (14, "unknown key; did you mean max_connections?"),
        "default.retry[2]": (17, "'soon' is no duration; write it like 90s, 10m, 1h30m or 4d12h"),
        "default.retry[5]": (17, "a duration is a finite number of seconds, not negative"),
        "default.hosts": (18, "must be a list in [ ]"),
        "default.total_message_rate": (
            19,
            "unknown key here; it belongs in [server] or [vmta.X]",
        ),
        "default.timeouts.mial": (20, "unknown key; did you mean mail?"),
        "default.message_rate": (21, "must be text in quotes"),
        "site.google": (23, "needs mx or domains: nothing can belong to it"),
        "vmta.a.site.gogle": (26, "there is no [site.gogle]; did you mean google?"),
        "vmta.a.site.gogle.port": (27, "must be a port, a whole number from 1 to 65535"),
        'domain."-bad-.example"': (29, "'-bad-.example' is no valid domain"),
    }


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("hostname = 'x.example'\n", "hostname: unknown key"),
        ("server = 3\n", "server: must be a table"),
        ("listener = 3\n", "listener: must be written as [[listener]], once for each"),
        ("[listener]\naddress='127.0.0.1:1'\n", "listener: must be written as [[listener]]"),
        ("vmta = 3\n", "vmta: must be written as [vmta.X], once for each X"),
        ("[vmta]\nport = 3\n", "vmta.port: must be a table [vmta.port], or belongs into"),
        ("[vmta.A]\n", "vmta.A: a virtual MTA is named with a-z"),
        ("[site.'a.b']\ndomains=['x.example']\n", 'site."a.b": a site is named with a-z'),
        ("include = 'x.toml'\n", "include: must be a list of files"),
        ("[default]\nretry = []\n", "default.retry: must name at least one duration"),
        (
            "[default]\nbackoff_initial = '2h'\n",
            "default.backoff_initial: backoff_initial is longer",
        ),
        ("[default]\nhosts = ['mx.example:99999']\n", "default.hosts[1]: '99999' is no port"),
        ("[default]\nmessage_rate = '0/s'\n", "default.message_rate: '0/s' would stop all mail"),
        (
            "[default]\nconnect_timeout = 0\n",
            "default.connect_timeout: must be longer than nothing",
        ),
        ("[default]\nport = true\n", "default.port: must be a port"),
        ("[default]\ntimeouts = 3\n", "default.timeouts: must be a table"),
        ("[dns]\nservers = ['ns.example']\n", "dns.servers[1]: 'ns.example' must be an IP address"),
        ("[domain.'*.x.example']\n", 'domain."*.x.example": '),
        (
            "[domain.'x.example']\nport=1\n[domain.'X.example']\nport=2\n",
            'domain."X.example": stands in [domain."x.example"] already',
        ),
        ("[accounting.a]\n", "accounting.a.path: must be set"),
        ("[accounting.a]\npath='x'\nrecords=['z']\n", 'accounting.a.records[1]: must be "d", "b"'),
        (
            "[accounting.a]\npath='x'\n[accounting.b]\npath='./x'\n",
            "accounting.b.path: [accounting.a] writes to this file already",
        ),
        ("[accounting.a]\npath='x'\nrotate='1w'\n", 'accounting.a.rotate: must be "1d" or "never"'),
        ("[logging]\nlevel='loud'\n", 'logging.level: must be "debug", "info"'),
    ],
)
def test_a_mistake_is_told_in_plain_words(write, text: str, mistake: str) -> None:
    server = "" if text.startswith("server") else SERVER
    assert the_mistake(write(text + server)).startswith(mistake)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("min_free = 0.1", "server.min_free: 0.1 is neither a share nor a size"),
        ("workers = 999", "server.workers: must be a whole number from 0"),
        ("intake_memory = '1X'", "server.intake_memory: '1X' is no size"),
        ("servers = []", "server.servers: unknown key here; it belongs in [dns]"),
    ],
)
def test_a_mistake_in_the_server_is_told_in_plain_words(write, text: str, mistake: str) -> None:
    assert the_mistake(write(SERVER + text)).startswith(mistake)


def test_a_hostname_without_a_dot_is_for_the_lab_only(write) -> None:
    assert the_mistake(write('[server]\nhostname = "mta"')).startswith(
        "server.hostname: must be a full"
    )
    lab = '[server]\nhostname = "mta"\nlab = true\n[default]\nhosts = ["127.0.0.1:25"]\n'
    assert load(write(lab)).server.hostname == "mta"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("address = 'localhost:25'", "address: 'localhost:25' must be an IP address with a port"),
        ("address = '127.0.0.1'", "address: '127.0.0.1' lacks a port"),
        ("address = '127.0.0.1:2525'", "address: port 2525 is taken by listener[1]"),
        ("address = '0.0.0.0:2525'", "address: port 2525 is taken by listener[1]"),
        ("relay_from = []", "address: must be set"),
        ("address = '[::]:25'\nrelay_from = ['::/0']", "relay_from: ::/0 lets the whole Internet"),
        ("address = '[::]:25'\nmax_recipients = 99", "max_recipients: must be 100 or more"),
        ("address = '[::]:25'\njob_header = 'X Job'", "job_header: must be the name of a header"),
        ("address = '[::]:25'\ntls = 'starttls'", " TLS needs tls_cert and tls_key; tls_cert is"),
        (
            "address = '[::]:25'\nrelay_certificates = ['a.example']",
            "relay_certificates: no certificate",
        ),
        (
            "address = '[::]:25'\ntls_client = 'required'",
            "tls_client: no certificate could be shown",
        ),
        (
            "address = '127.0.0.1:26'\nproxy_from = ['127.0.0.5']\nrelay_from = ['0.0.0.0/0']",
            "relay_from: 0.0.0.0/0 lets the whole Internet",
        ),
        ("address = '[::]:25'\ntls_cert = 'c.pem'", " TLS needs tls_cert and tls_key; tls_key is"),
    ],
)
def test_a_mistake_in_a_listener_is_told_in_plain_words(write, text: str, mistake: str) -> None:
    found = the_mistake(write(SERVER + LISTENER + "[[listener]]\n" + text))
    assert found.removeprefix("listener[2]").lstrip(".:").startswith(mistake)


def test_listeners_of_other_families_and_of_port_zero_do_not_collide(write) -> None:
    more = "".join(
        f"[[listener]]\naddress = '{address}'\n"
        for address in ("[::]:2525", "127.0.0.2:2525", "127.0.0.1:0", "127.0.0.1:0")
    )
    assert len(load(write(SERVER + LISTENER + more)).listeners) == 5


def test_with_several_virtual_mtas_a_listener_must_say_whose_mail_it_takes(write) -> None:
    assert "must say which virtual MTA" in the_mistake(
        write(SERVER + LISTENER + "[vmta.a]\n[vmta.b]\n")
    )
    named = load(write(SERVER + LISTENER + 'vmta = "b"\n[vmta.a]\n[vmta.b]\n'))
    assert named.listeners[0].vmta == "b"
    default = load(write(SERVER + LISTENER + "[vmta.a]\n[vmta.default]\n"))
    assert default.selection.default == "default"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[[listener]]\naddress = '192.0.2.1:25'\n", "listener[1].address"),
        ("[vmta.a]\nsource_addresses = ['192.0.2.1']\n", "vmta.a.source_addresses"),
        ("[domain.'x.example']\nhosts = ['192.0.2.1:25']\n", 'domain."x.example".hosts'),
        ("[dns]\nservers = ['192.0.2.1']\n", "dns.servers"),
    ],
)
def test_lab_mode_reaches_loopback_only(write, text: str, key: str) -> None:
    lab = SERVER + "lab = true\n[default]\nhosts = ['[::1]:25', 'mx.lab.example']\n"
    assert load(write(lab)).server.lab
    assert the_mistake(write(lab + text)).startswith(f"{key}: 192.0.2.1 is not loopback")


def test_lab_mode_asks_no_dns_server_but_one_on_loopback(write) -> None:
    assert the_mistake(write(SERVER + "lab = true\n")).startswith("dns.servers: lab mode")


def test_relative_paths_start_at_the_file_that_names_them(write, tmp_path: Path) -> None:
    path = write(
        'include = ["sub/a.toml"]' + SERVER, sub__a='[accounting.main]\npath = "acct.csv"\n'
    )
    settings = load(path)
    assert settings.server.spool_dir == str(tmp_path / "spool")
    assert settings.accounting[0].path == str(tmp_path / "sub" / "acct.csv")


def test_a_spool_that_cannot_be_written_is_only_a_warning(write) -> None:
    text = SERVER.replace('"spool"', '"/proc/nowhere"') + LISTENER
    settings: Settings = load(write(text))
    assert settings.server.spool_dir == "/proc/nowhere"


def test_unlimited_and_empty_hosts_undo_what_a_more_general_place_sets(write) -> None:
    settings = load(
        write(
            SERVER + "[default]\nmax_connections = 5\nhosts = ['mx.example']\n"
            "[domain.'x.example']\nmax_connections = 'unlimited'\nhosts = []\n"
        )
    )
    policy = settings.book.policy(QueueKey("x.example", "default"), "x.example")
    assert (policy.max_connections, policy.hosts) == (None, ())


def test_hosts_get_one_spelling_and_keep_an_open_port_open(write) -> None:
    hosts = "['MX.example', 'mx.example:26', '2001:DB8::1', '[2001:db8::1]:26', '192.0.2.1']"
    settings = load(write(SERVER + f"[default]\nhosts = {hosts}\n"))
    assert settings.book.policy(QueueKey("x.example", "default"), "").hosts == (
        "mx.example",
        "mx.example:26",
        "[2001:db8::1]",
        "[2001:db8::1]:26",
        "192.0.2.1",
    )
