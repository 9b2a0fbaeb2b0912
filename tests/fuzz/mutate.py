"""Changes of a file's bytes, drawn from a seeded generator."""

import random

# text that is difficult for parsers, for any file format
TOKENS = (
    *(b"", b"0", b"-1", b"1e308", b"1e999", b"nan", b"inf", b"99999999999999999999", b"null"),
    *(b"true", b'""', b"[]", b"{}", b"[[", b"{{", b'"', b"'", b"\\", b"\0", b"\n", b"\r\n", b"\t"),
    *(b"../", b"/etc/passwd", b"/dev/zero", b"\xff\xfe", b"\xef\xbb\xbf", b"\x81", b"<", b">"),
    *(b"&e;", b"<!DOCTYPE a>", b"</annotation>", b"&a", b"*a", b"!!binary ", b",", b";", b"|"),
    *(b"[" * 3000, b"a" * 3000, b"\xed\xb3\xbc", b"%s", b"{0}", b"[/x]", b"0x7f", b"1_0", b"\xa0"),
)  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Apply one to four changes to the content."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        kind = rng.randrange(7)
        if kind == 0:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + rng.randint(1, 20)]
        elif kind == 3:
            out[at:at] = rng.choice(TOKENS)
        elif kind == 4:
            # replace a whole number or word
            end = at
            while end < len(out) and chr(out[end]).isalnum():
                end += 1
            out[at:end] = rng.choice(TOKENS)
        elif kind == 5:
            piece = out[at : at + rng.randint(1, 40)]
            to = rng.randint(0, len(out))
            out[to:to] = piece
        elif out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)
