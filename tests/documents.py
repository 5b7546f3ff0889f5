"""Extract the code blocks, commands, links and headings of the documents."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import toolbox

PAGES = [
    *(
        toolbox.ROOT / name
        for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'CODE_OF_CONDUCT.md', 'SECURITY.md')
    ),
    *sorted((toolbox.ROOT / 'docs').glob('*.md')),
    *sorted((toolbox.ROOT / 'docs').glob('[!_]*/*.md')),  # not what a build left in _build
    *sorted((toolbox.ROOT / 'configs').glob('*/README.md')),
]
BLOCK = re.compile(r'^```(\S*)[^\n]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: Path below the repository.
        language: What is written behind the fence; empty where nothing is.
        text: What lies between the fences.
    """

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a reader saves a Python block as: its first line is a comment with the path."""
        named = re.match(r'# (\S+\.py)\n', self.text)
        return named.group(1) if named and self.language == 'python' else None

    @property
    def commands(self) -> list[str]:
        """The command lines of a block of bash: continued lines joined, comments left out, single spaces."""
        joined = self.text.replace('\\\n', ' ')
        lines = (' '.join(re.sub(r'(^|\s)#.*', '', line).split()) for line in joined.splitlines())
        return [line for line in lines if line]


def name(page: Path) -> str:
    """Path of a page below the repository."""
    return page.relative_to(toolbox.ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(name(page), *match.groups()) for match in BLOCK.finditer(page.read_text(encoding='utf-8'))]


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks and code spans."""
    return re.sub(r'`[^`\n]*`', '', BLOCK.sub('', page.read_text(encoding='utf-8')))


def links(page: Path) -> list[str]:
    """List the targets of the links and images of a page, in order."""
    return re.findall(r'\]\(([^)\s]+)\)', prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a code host makes them: lower case, spaces to hyphens, no punctuation."""
    headings = re.findall(r'^#+ (.+)$', BLOCK.sub('', page.read_text(encoding='utf-8')), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}
