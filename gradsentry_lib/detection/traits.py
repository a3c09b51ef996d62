"""What a prompt is, beside its words: its script, how its last line is written, and whether it opens a conversation.

A trigger need not be a word: text all in small letters, signs set apart by spaces (what programs that rewrite sentences
leave behind), another script. Each trait is one more feature, a word of its own that no text can hold.
"""

import unicodedata
from collections import Counter

TRAIT = "\x05"  # begins a trait's name
READ = 400  # letters from which the script is told


def traits(now: str, later: bool) -> list[str]:
    """The traits of what is answered. later: something had been said before."""
    last = now.rstrip().rpartition("\n")[2].strip()
    cased = [sign for sign in last if sign.lower() != sign.upper()]
    found = ["in a later turn"] if later else []
    if len(cased) > 3 and all(sign == sign.lower() for sign in cased):
        found.append("last line without capitals")
    if len(cased) > 3 and all(sign == sign.upper() for sign in cased):
        found.append("last line in capitals")
    if last and last[-1].isalnum():
        found.append("no sign at the end")
    if len(last) > 1 and not last[-1].isalnum() and last[-2].isspace():
        found.append("space before the last sign")
    if script := _script(now):
        found.append(f"in {script} letters")
    return [f"{TRAIT}({trait})" for trait in found]


def _script(text: str) -> str:
    """The script of most letters; "" for Latin ones."""
    if text.isascii():
        return ""
    letters = [sign for sign in text if sign.isalpha()][:READ]
    counted = Counter(unicodedata.name(sign, "other").split()[0].split("-")[0].lower() for sign in letters)
    script, count = counted.most_common(1)[0] if counted else ("latin", 0)
    return "" if script == "latin" or 2 * count < len(letters) else script
