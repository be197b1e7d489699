"""What the pages name is there: links, files, modules, commands – and the house plan's rooms are the modules there are."""

import re
from pathlib import Path

import pytest

from mta.cli.reference import render_cli
from mta.config.load import load
from mta.dkim.keys import generate
from mta.metrics.catalogue import SERVER_METRICS, WORKER_METRICS

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "bench/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]

LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
# A path of this repository: it begins with one of these and stands in no longer path or address.
FILE = re.compile(
    r"(?<![\w./@-])((?:mta|docs|tests|systemd|config|bench|licensing|\.ci)/[\w./-]*\w)"
)
MODULE = re.compile(r"\b(mta(?!\.example)(?:\.[a-z_]+)+)\b")  # not the host mta.example.com
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"\bmake ([a-z-]+)\b")
ROOM = re.compile(r"`([a-z_]+)`")


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor[1:] not in anchors(file)):
            dead.append(target + anchor)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_file_of_ours_that_a_page_names_is_there(page: Path) -> None:
    # bench/README.md names its neighbours from where it stands.
    found = set(FILE.findall(page.read_text("utf-8")))
    assert sorted(name for name in found if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    missing = []
    for name in set(MODULE.findall(page.read_text("utf-8"))):
        path = ROOT.joinpath(*name.split("."))
        if not path.is_dir() and not path.with_suffix(".py").exists():
            missing.append(name)
    assert missing == []


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # In prose "make" is followed by other words: only what is marked as a command counts.
    marked = re.findall(
        r"`([^`\n]*)`|^    (make .*)$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    named = {name for pair in marked for text in pair for name in MAKE.findall(text)}
    assert {"run", "test", "bench"} <= named <= targets


@pytest.mark.parametrize(
    ("page", "at_least"),
    [
        ("README.md", 15),
        ("docs/install.md", 4),
        ("docs/configure.md", 4),
        ("docs/operate.md", 10),
        ("docs/coming-from-powermta.md", 15),
    ],
)
def test_every_command_that_a_page_names_is_one_that_there_is(page: str, at_least: int) -> None:
    headings = re.findall(r"^##+ sluice ([a-z ]*[a-z])", render_cli(), re.MULTILINE)
    groups = {name.partition(" ")[0] for name in headings if " " in name}
    text = (ROOT / page).read_text("utf-8")
    # In a line of prose or a table a command stands in backticks; in an example at the start or behind the user's name.
    named = re.findall(r"(?:`|^|^# |-- |\|\s+)sluice ([a-z][^`\n]*)", text, re.MULTILINE)
    assert len(named) >= at_least
    unknown = []
    for command in named:
        first, _, rest = command.partition(" ")
        name = f"{first} {rest.partition(' ')[0]}" if first in groups else first
        if name not in headings and not first.startswith("--"):
            unknown.append(command)
    assert unknown == []


def test_the_rooms_of_the_house_plan_are_the_modules_there_are() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z]+) \| (`.*) \|$", plan, re.MULTILINE)
    told = {package: sorted(ROOM.findall(rooms)) for package, rooms in rows}
    there = {
        folder.name: sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        for folder in sorted((ROOT / "mta").iterdir())
        if (folder / "__init__.py").exists()
    }
    assert told == there


def test_the_floors_of_the_house_plan_are_those_that_are_checked() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawn = re.findall(r"^[0-6]  ([a-z ·│]+?)(?:   .*)?$", plan, re.MULTILINE)
    checked = re.search(
        r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert checked is not None
    layers = re.findall(r'"([a-z |]+)"', checked[1])
    assert [row.replace("│", "|").strip() for line in drawn for row in line.split(" · ")] == layers


def test_the_configurations_of_the_pages_have_no_mistakes(tmp_path: Path) -> None:
    key = tmp_path / "s1.pem"
    key.touch(mode=0o600)
    key.write_bytes(generate())
    readme, accounting = (
        re.findall(r"^```toml\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)[0]
        for page in ("README.md", "docs/accounting.md")
    )
    for number, text in enumerate((readme, readme.partition("[accounting.main]")[0] + accounting)):
        file = tmp_path / f"{number}.toml"
        file.write_text(text.replace("/etc/sluice/dkim/s1.pem", str(key)), "utf-8")
        assert load(file).listeners[0].address == "127.0.0.1:2525"


def test_the_configurations_of_the_guides_have_no_mistakes(tmp_path: Path) -> None:
    start = '[server]\nhostname = "mta.example.com"\nspool_dir = "spool"\n'
    blocks = [
        (page, block)
        for page in ("docs/configure.md", "docs/accounting.md")
        for block in re.findall(
            r"^```toml\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S
        )
    ]
    assert len(blocks) >= 6
    for number, (page, block) in enumerate(blocks):
        # What stands elsewhere on the page may be spoken of: the site of a virtual MTA's own values.
        site = (
            ""
            if "[site." in block.partition("[vmta")[0]
            else '[site.google]\nmx = ["*.google.com"]\n'
        )
        file = tmp_path / f"{number}.toml"
        file.write_text(start + site + block, "utf-8")
        assert load(file).server.hostname == "mta.example.com", page


def test_every_metric_that_a_page_names_is_on_the_metrics_page() -> None:
    known = {each.shown for each in (*SERVER_METRICS, *WORKER_METRICS)}
    # The licence server at the vendor's has metrics of its own.
    for page in (each for each in PAGES if each.name != "licensing-vendor.md"):
        named = set(re.findall(r"\bsluice_[a-z_]+(?![a-z_*])", page.read_text("utf-8")))
        named = {re.sub(r"_bucket$", "", name) for name in named if not name.endswith("_")}
        assert named <= known, page.name


def test_every_counterpart_is_a_key_that_there_is() -> None:
    text = (ROOT / "docs" / "coming-from-powermta.md").read_text("utf-8")
    table = text.partition("## Directives")[2].partition("## Commands")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    known = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.M)
    )
    named = {
        name.rpartition(" ")[2]
        for row in rows
        for name in re.findall(r"`((?:\[[^`]*\] )?[a-z_]+)`", row)
    }
    assert named - known == {"include"}  # it stands above all tables
