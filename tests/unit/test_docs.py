"""Documents stay true: docs/pipeline.md shows what the golden files hold, and every path that a document names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import tables
from pipeline.tables import TABLES
from tests.test_architecture import ALLOWED

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "pipeline.md"
PIPELINE = DOCUMENT.read_text()
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
ROOMS = (*ALLOWED, "benchmarks", "etc", "examples", "scripts", "tests")


def renewed(text: str) -> str:
    """The document with the dumps as they are now: whole tables, so that only the sentences are written by hand."""

    def dump(block: re.Match[str]) -> str:
        golden = (ROOT / "tests" / "golden" / f"{block[1]}.flows").read_text().splitlines()
        start = re.match(r"(table=\d+|group_id|meter)", block[2])
        assert start
        lines = [line for line in golden if re.match(rf"{start[1]}\b", line)]
        return f"```golden {block[1]}\n" + "\n".join(lines) + "\n```"

    return re.sub(r"```golden (\S+)\n(.*?)```", dump, text, flags=re.DOTALL)


def test_every_dump_is_in_its_golden_file(update_golden: bool) -> None:
    if update_golden:
        DOCUMENT.write_text(renewed(PIPELINE))
    blocks = re.findall(r"```golden (\S+)\n(.*?)```", PIPELINE, re.DOTALL)
    assert len(blocks) >= 8
    for name, text in blocks:
        golden = (ROOT / "tests" / "golden" / f"{name}.flows").read_text().splitlines()
        missing = [line for line in text.splitlines() if line not in golden]
        assert not missing, f"docs/pipeline.md shows lines that {name}.flows does not have: {missing}"


def test_every_line_of_the_golden_file_is_shown() -> None:
    golden = (ROOT / "tests" / "golden" / "dual-stack.h1.flows").read_text().splitlines()
    assert [line for line in golden if not line.startswith("#") and line not in PIPELINE] == []


def test_every_table_in_use_has_its_section() -> None:
    for spec in TABLES:
        assert f"## {int(spec.table)} {spec.table.name}\n" in PIPELINE


def test_the_map_of_the_code_answers_a_newcomers_questions() -> None:
    design = (ROOT / "docs" / "design.md").read_text()
    table = re.search(r"^\| question \| file \|\n\|[-|]+\n((?:\|.*\n)+)", design, re.MULTILINE)
    assert table, "docs/design.md has no table with the columns question and file"
    answers = dict(re.findall(r"^\| (.+?) \| `(.+?)` \|$", table[1], re.MULTILINE))
    assert len(answers) == len(table[1].splitlines()), "a row of the table is not a question and one path"
    for subject in ("rule of an ACL", "veth", "Docker's Join", "DHCP offer", "new kind of spec"):
        assert any(subject in question for question in answers), f"nothing is said of: {subject}"
    assert [path for path in answers.values() if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[a-z0-9_./-]*)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


ADR = ROOT / "docs" / "adr"


def test_the_index_of_decisions_has_every_record_with_its_title_status_and_date() -> None:
    rows = []
    for path in sorted(ADR.glob("0*.md")):
        head = re.match(
            r"# (\d+)\. (.+)\n\nStatus: (\w+)(?: by (\[\d+\]\(\S+\)))?\\\nDate: (\d{4}-\d\d-\d\d)\n\n## Context\n",
            path.read_text(),
        )
        assert head, f"{path.name} does not begin as all records do"
        assert int(path.name[:4]) == int(head[1]), path.name
        assert re.findall(r"^## (\w+)$", path.read_text(), re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name
        rows.append(f"| [{head[1]}]({path.name}) | {head[2]} | {head[3]} | {head[5]} | {head[4] or ''} |".replace("|  |", "| |"))
    index = [line for line in (ADR / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert index == rows


def test_links_between_documents_lead_somewhere() -> None:
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_every_register_and_origin_is_in_the_document() -> None:
    rows = dict(re.findall(r"^\| `(reg\d|metadata)` \| (.+) \|$", PIPELINE, re.MULTILINE))
    registers = {value for name, value in vars(tables).items() if name.startswith("REG_") or name == "POLICY"}
    origins = {value for name, value in vars(tables).items() if name.startswith("ORIGIN_")}
    assert set(rows) == registers
    assert {int(number) for number in re.findall(r"\b\d\b", rows[tables.REG_ORIGIN])} == origins
