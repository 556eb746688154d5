"""Turns one wrong answer of a run into a right one, and makes every hash fit again. `lockedroom verify` still finds it.

python docs/examples/cover_tracks.py RUN
"""

import hashlib
import json
import sys
from pathlib import Path

run = Path(sys.argv[1])
records, manifest, sums = run / "records.jsonl", run / "manifest.json", run / "SHA256SUMS"

lines = records.read_text("utf-8").splitlines(keepends=True)
first = next(i for i, line in enumerate(lines) if '"wrong_answer"' in line)
record = json.loads(lines[first])
record["result"]["reward"] = 1.0
record["result"]["details"] |= {"code": "ok", "outcome": "correct"}
lines[first] = json.dumps(record, separators=(",", ":"), ensure_ascii=False) + "\n"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


old_records, old_manifest = records.read_bytes(), manifest.read_bytes()
new_records = "".join(lines).encode()
new_manifest = (
    old_manifest.decode()
    .replace(sha256(old_records), sha256(new_records))
    .replace(f'"bytes": {len(old_records)}', f'"bytes": {len(new_records)}')
    .encode()
)
text = sums.read_text("utf-8")
for old, new in ((old_records, new_records), (old_manifest, new_manifest)):
    text = text.replace(sha256(old), sha256(new))
records.write_bytes(new_records)
manifest.write_bytes(new_manifest)
sums.write_text(text, "utf-8")
sys.stdout.write(f"{run}: {record['id']}, draw {record['draw']}, is right now, and every hash fits\n")
