"""The command line of scripts/study, whose head describes it."""
import argparse
import os
import re
import sys
from pathlib import Path

import table
from plain_yaml import CONTROL
from plan import Plan, seeds
from refused import BAD_DATA, INPUT_OUTPUT, Refused
from results import Results


class Arguments(argparse.ArgumentParser):
    def error(self, message):
        raise Refused(f"{message}; see scripts/study --help")


def number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 999999999, found '{text}'")
    return int(text)


def arguments():
    parser = Arguments(prog="study", add_help=False, allow_abbrev=False)
    parser.add_argument("plan")
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=lambda text: seeds(text, "--seeds"))
    parser.add_argument("--steps", type=number)
    parser.add_argument("--ranks", type=number, default=2)
    parser.add_argument("--runs", type=os.path.abspath)
    parser.add_argument("--baseline")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--task", type=number)
    parser.add_argument("--collect", action="store_true")
    for word in sys.argv[1:]:
        if CONTROL.search(word):
            raise Refused(f"an argument is not UTF-8 or has a control character: {word!a}")
    given = parser.parse_args()
    parts = [name for name in ("table", "prepare", "task", "collect") if getattr(given, name)]
    if len(parts) > 1:
        raise Refused(f"--{parts[0]} and --{parts[1]} do different things; give one of them")
    return given


def preview(plan: Plan, study):
    from work import left
    width = max(len(arm.name) for arm in study.arms) + 12
    for seed in plan.seeds:
        for arm in study.arms:
            name = f"{arm.name}-seed-{seed}"
            begun = "begun" if (plan.runs / f"{name}.json").exists() else "to do"
            print(f"{name:{width}} {'finished' if study.results.has(arm.name, seed) else begun}")
    print(f"{len(study.todo)} runs to do, {left(study)}")


def main():
    given = arguments()
    root = Path(__file__).resolve().parent.parent.parent
    path = Path(given.plan).resolve()
    # What a plan names stands in the package's folder. Messages name the plan from there too, if it lies in it.
    os.chdir(root)
    plan = Plan(path.relative_to(root) if path.is_relative_to(root) else path, given.runs)
    plan.steps, plan.seeds = given.steps or plan.steps, given.seeds or plan.seeds
    arms = plan.select(given.only) if given.only else list(plan.arms.values())
    results = Results(plan)
    if given.baseline:
        if given.baseline not in plan.arms or not given.table:
            raise Refused(f"--baseline: expected one of the arms, beside --table, found {given.baseline}")
        plan.baseline, plan.tables = given.baseline, f"to-{given.baseline}"
    if not given.table:
        from work import Study
        study = Study(plan, results, arms, given.ranks)
        if given.dry_run:
            preview(plan, study)
            return
        if given.prepare:
            study.prepare()
            return
        if given.task:
            study.run_task(given.task)
            return
        if given.collect:
            study.collect()
        elif study.todo:
            study.run()
    if not results.lines:
        raise Refused(f"{results.path} has no figures of this plan's arms with {plan.steps} steps yet", BAD_DATA)
    print(table.write(plan, results, arms), end="")


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        print(f"study: {refused}", file=sys.stderr)
        sys.exit(refused.status)
    except OSError as error:
        print(f"study: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        sys.exit(INPUT_OUTPUT)
