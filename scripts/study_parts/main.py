"""The command line of scripts/study, whose head describes it."""
import os
import sys
from pathlib import Path

# Behind the program's own folder, which comes first.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
from command_line.arguments import Arguments, number
from command_line.program import ROOT, kinship
from command_line.refused import BAD_DATA, Refused, run_program
import table
from plain_yaml import CONTROL
from plan import Plan, seeds
from results import Results


def arguments():
    parser = Arguments("study")
    parser.add_argument("plan")
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=lambda text: seeds(text, "--seeds"))
    parser.add_argument("--steps", type=number())
    parser.add_argument("--ranks", type=number(), default=2)
    parser.add_argument("--runs", type=os.path.abspath)
    parser.add_argument("--baseline")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--task", type=number())
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
    path = Path(given.plan).resolve()
    # scripts/launch-mpirun starts the same program, also if the variable names it from the folder that is left now.
    os.environ["KINSHIP"] = kinship()
    # What a plan names stands in the package's folder. Messages name the plan from there too, if it lies in it.
    os.chdir(ROOT)
    plan = Plan(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path, given.runs)
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
    run_program("study", main)
