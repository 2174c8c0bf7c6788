"""Texts in Markdown, such as names of classes that somebody else has chosen."""


def in_markdown(text: str) -> str:
    """Text that stays in its line or cell and is not taken for markup."""
    escaped = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").splitlines())
    return "".join(f"\\{letter}" if letter in r"\`*_[]|#~!" else letter for letter in escaped)
