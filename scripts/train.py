"""Launch a training with Snakemake, show which jobs end, and print the verdict of the validation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from arguments import read_json
from launches import Launch
from run import QUIET, campaign_folder, command, error_text

TAIL = 4
"""Last lines of a failed job's log that are shown."""


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    # After `--`, or the options that take lists would swallow the target.
    target = ["--", "train"]
    if QUIET & set(arguments):
        return subprocess.run([*command(arguments), *target], check=False).returncode
    log = Path("results") / "logs" / f"train-{time.strftime('%Y%m%d-%H%M%S')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    launch = Launch(arguments, log)
    full = [*command([*arguments, *launch.arguments()]), *target]
    with open(log, "w") as sink:
        process = subprocess.Popen(
            full, stdout=sink, stderr=subprocess.STDOUT, env=os.environ | launch.environment()
        )
        launch.follows(process.pid)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(signal.SIGINT, lambda *_: None)  # Snakemake gets the terminal's signal itself
        shown = 0
        while True:
            ended = process.poll() is not None
            text = log.read_text(errors="replace")
            shown = show_jobs(text, shown)
            if ended:
                break
            launch.beat()
            time.sleep(1)
    launch.end()
    text = log.read_text(errors="replace")
    folder = campaign_folder(text)
    failed = failed_logs(text)
    for file in failed:
        words = Path(file).read_text(errors="replace").strip() if Path(file).exists() else ""
        start = words.rfind("Error: ")
        print(words[start:] if start >= 0 else "\n".join(words.splitlines()[-TAIL:]))
        print(f"    (log: {file})")
    minutes = (time.monotonic() - started) / 60
    if process.returncode:
        if not failed:
            if "MissingRuleException" in text:
                print(
                    "The configuration has no block `training`: give one with --configfile (docs/training.md)."
                )
            else:
                print(error_text(text))
        print(f"Ended with failures after {minutes:.1f} min; the whole log: {log}. The same command goes on.")
        return process.returncode
    if folder is None:
        print("Nothing to be done: the models of this training are registered.")
        return 0
    print(verdict(folder / "training"))
    print(f"Finished after {minutes:.1f} min. Report: {folder}/training/validation.md")
    return 0


def show_jobs(log: str, shown: int) -> int:
    """Print the jobs that ended since; the number of them."""
    ended = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", log, re.MULTILINE)
    total = re.findall(r"^(\d+) of (\d+) steps", log, re.MULTILINE)
    for rule in ended[shown:]:
        print(
            f"{time.strftime('%H:%M:%S')} {rule.removeprefix('train_')} done"
            + (f" ({total[-1][0]}/{total[-1][1]})" if total else ""),
            flush=True,
        )
    return len(ended)


def failed_logs(log: str) -> list[str]:
    """Logs of the jobs that failed, each once."""
    found = re.findall(r"^Error in rule .*?^\s+log: (\S+)", log, re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(found))


def verdict(folder: Path) -> str:
    """What the data sets and the validation say, in lines."""
    lines = []
    last = max(folder.glob("g*/labels.json"), key=lambda path: int(path.parent.name[1:]))
    for kind, report in read_json(last).items():
        lines.append(
            f"{kind}: {report['frames']} labels, {len(report['rejected'])} rejected; {report['level']}"
        )
        lines += [f"    rejected {row['name']}: {row['reason']}" for row in report["rejected"]]
    for row in read_json(folder / "validation.json")["checks"]:
        words = {True: "passed", False: "FAILED", None: "not checked"}[row["passed"]]
        value = "" if row["value"] is None else f"{row['value']:.3g} {row['unit']}"
        limit = "" if row["limit"] is None else f" (limit {row['limit']:g})"
        lines.append(f"    {words:11s} {row['name']}, {row['material']}: {value}{limit}")
    registered = read_json(folder / "registered.json")
    lines.append(f"Registered as {registered['name']} in {registered['models_file']}.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
