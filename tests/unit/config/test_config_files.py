"""Where keys stand: the lines an operator is pointed to."""

from mta.config.files import find_lines, format_key


def test_headers_and_keys_are_found_with_their_lines() -> None:
    text = """
a = 1
[server] # c
hostname = "x"
 [vmta.a.domain."gmail.com"]
"quoted key" = 1
[[listener]]
address = "1"
[[listener]]
address = "2"
[listener.inner]
x = 1
b.c = 2
"""
    assert find_lines(text) == {
        ("a",): 2,
        ("server",): 3,
        ("server", "hostname"): 4,
        ("vmta", "a", "domain", "gmail.com"): 5,
        ("vmta", "a", "domain", "gmail.com", "quoted key"): 6,
        ("listener", 0): 7,
        ("listener", 0, "address"): 8,
        ("listener", 1): 9,
        ("listener", 1, "address"): 10,
        ("listener", 1, "inner"): 11,
        ("listener", 1, "inner", "x"): 12,
        ("listener", 1, "inner", "b", "c"): 13,
    }


def test_a_key_is_written_as_the_operator_writes_it() -> None:
    path = ("vmta", "a", "domain", "gmail.com", "retry", 0)
    assert format_key(path) == 'vmta.a.domain."gmail.com".retry[1]'
