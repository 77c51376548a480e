"""Reports: how results, cells and verdicts are shown, in the terminal, as Markdown, as a page and as a picture."""
