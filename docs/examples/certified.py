"""The machines that were certified, as a Markdown table: python docs/examples/certified.py"""

from pathlib import Path

from copycost.studies.certify import evidence

FOLDER = Path(__file__).parents[2] / "reports" / "certified"


def table() -> str:
    """A row for each file of evidence."""
    lines = ["| evidence | device | copycost | statements | do not hold |", "| --- | --- | --- | ---: | --- |"]
    for path in sorted(FOLDER.glob("*.json")):
        document = evidence.read(path)
        environment, rows = document["environment"], document["rows"]
        names = [gpu["name"] for gpu in environment["gpus"]] if document["device"] == "gpu" else [environment["cpu"]]
        faults = [f"{row['step']}: {row['statement']}" for row in rows if not row["holds"]]
        if not document["finished"]:
            faults.append("it was stopped")
        lines.append(
            f"| `{path.name}` | {', '.join(map(str, names))} | {environment['copycost']}, engine "
            f"{environment['engine']} | {len(rows)} | {'; '.join(faults) or 'none'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
