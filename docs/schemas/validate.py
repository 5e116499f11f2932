"""A second opinion: the files here are JSON Schemas, and what the program prints fits to them.

python docs/schemas/validate.py target/release/kvm-timeline
"""

import json
import subprocess
import sys
from pathlib import Path

from jsonschema import Draft202012Validator

HERE = Path(__file__).parent
CAPTURE = str(HERE.parents[1] / "fixtures" / "agent")


def main(program: str) -> None:
    validators = {}
    for path in sorted(HERE.glob("*.json")):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        validators[path.stem] = Draft202012Validator(schema)
    runs = [[name, "--json", CAPTURE] for name in ("check", "offsets", "stats", "inspect", "print")]
    runs += [["recipe", "--json"], ["completions", "--json", "zsh"], ["convert", "--json", CAPTURE, "-o", "/dev/null", "--format", "json"]]
    runs += [["check", "--json", "/nowhere"]]
    for run in runs:
        text = subprocess.run([program, *run], capture_output=True, text=True).stdout
        name = "error" if run[-1] == "/nowhere" else run[0]
        documents = [json.loads(line) for line in text.splitlines()[::97]] if name == "print" else [json.loads(text)]
        for document in documents:
            validators[name].validate(document)
    print(f"{len(validators)} schemas, {len(runs)} documents: all fit")


main(*sys.argv[1:])
