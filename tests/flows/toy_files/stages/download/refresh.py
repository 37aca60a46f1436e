"""Takes the fingerprint of a source."""

import hashlib
import sys

from stages import fail, given, write

source, archive = sys.argv[1], given(sys.argv[1])
if archive and not archive.exists():
    fail(f"{archive} does not exist")
sha256 = hashlib.sha256(archive.read_bytes()).hexdigest() if archive else None
write(f"sources/{source}.json", {"source": source, "kind": "given", "sha256": sha256})
