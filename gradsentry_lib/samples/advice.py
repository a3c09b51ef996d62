"""What to do where rows of a source can't be read: one sentence for people, beside the reason."""

from gradsentry_lib.samples.parse import NO_TEXT


def advice(kind: str, reason: str) -> str:
    """`kind`: how the rows lie; `reason`: why the first, or most, of them are refused."""
    if reason.startswith(NO_TEXT):
        return "the text is not UTF-8: say how it is written, such as --encoding gb18030 or --encoding cp1251"
    told = "say which columns are which: --column prompt=NAME --column response=NAME, or messages=NAME"
    if kind == "csv":
        return f"the first line is to name the columns; {told}; where another sign separates the cells: --separator"
    return told
