"""The verdicts in one Markdown table, a column for each environment: python verdicts.py OLDER.json … NEWEST.json

Each file is what `copycost claims --json FILE` wrote there. What was seen is the newest environment's; where verdicts
differ, everyone's.
"""

import json
import string
import sys
from pathlib import Path

WORDS = {"holds": "holds", "depends": "*depends*", "refuted": "**refuted**", None: "—"}

files = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
letters = string.ascii_uppercase[: len(files)]
for letter, document in zip(letters, files, strict=True):
    environment = document["environment"]
    libraries = [f"{name} {environment['libraries'].get(name, 'none')}" for name in ("numpy", "tensorflow", "keras")]
    setting = f"TF_ENABLE_ONEDNN_OPTS={environment['variables'].get('TF_ENABLE_ONEDNN_OPTS', '(not set)')}"
    print(f"* {letter}: Python {environment['python']}, {', '.join(libraries)}, `{setting}`")
print(f"\n| claim | {' | '.join(letters)} | what was seen |")
print(f"| --- |{' --- |' * len(files)} --- |")
by_id = [{claim["id"]: claim for claim in document["claims"]} for document in files]
for name, newest in by_id[-1].items():
    rows = [document.get(name, {"verdict": None, "because": "no such claim"}) for document in by_id]
    evidence = newest["because"]
    if len({row["verdict"] for row in rows}) > 1:
        evidence = "; ".join(f"{letter}: {row['because']}" for letter, row in zip(letters, rows, strict=True))
    verdicts = " | ".join(WORDS[row["verdict"]] for row in rows)
    print(f"| `{name}` {newest['claim']} | {verdicts} | {evidence.replace('|', chr(92) + '|')} |")
