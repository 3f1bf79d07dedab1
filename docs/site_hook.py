"""Files outside docs/ that pages link to, as pages of the site (a hook of MkDocs, named in mkdocs.yml)."""

from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
OUTSIDE: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing-guide.md",
    "SECURITY.md": "report-a-vulnerability.md",
    "charts/slicewise/README.md": "chart.md",
    "admission/workloads/builtin_kinds.py": "builtin_kinds.py",
}
"""Path in the repository -> path in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them, less this file."""
    for path, name in OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    files.remove(next(file for file in files if file.src_uri == Path(__file__).name))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lets links lead to them; in those pages themselves, links lead back into docs/."""
    if page.file.src_uri in OUTSIDE.values():
        markdown = markdown.replace("](docs/", "](").replace("](../../docs/", "](")
        return markdown.replace("](SECURITY.md", f"]({OUTSIDE['SECURITY.md']}")
    for path, name in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path}", f"]({name}")
    return markdown
