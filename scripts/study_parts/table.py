"""The table of a study, as JSON and as Markdown, and its figure: all of it from the results alone."""
import json
import statistics

from command_line.files import publish
from comparison import judge, paired, summary
from figure import drawing
from plan import FIGURES, Plan
from results import CONDITIONS, TEACHER, Results


def write(plan: Plan, results: Results, arms) -> str:
    """Writes the three files beside the plan, and returns the Markdown."""
    document = measured(plan, results, arms)
    picture = plan.path.with_suffix(f".{plan.tables}.svg")
    text = markdown(plan, document, picture.name)
    for path, content in (
            (picture, drawing(document)), (picture.with_suffix(".md"), text),
            (picture.with_suffix(".json"), json.dumps(document, indent=2) + "\n")):
        publish(path, content)
    return text


def measured(plan: Plan, results: Results, arms):
    """The document of PLAN.results.json. Figures are in points: shares of 1 times 100."""
    if plan.baseline not in [arm.name for arm in arms]:
        arms = [plan.arms[plan.baseline], *arms]
    sets = {}
    for found in plan.sets:
        values = {
            (arm.name, figure): {
                seed: 100 * value for seed, value in results.figures(arm.name, found.name, figure).items()}
            for arm in arms for figure in FIGURES}
        differences = {
            figure: {
                arm.name: paired(values[arm.name, figure], values[plan.baseline, figure])
                for arm in arms if arm.name != plan.baseline}
            for figure in FIGURES}
        for figure in FIGURES:
            judge(differences[figure])
        sets[found.name] = {
            "purpose": found.purpose,
            "teacher": {
                figure: statistics.fmean(teacher)
                for figure in FIGURES if (teacher := [
                    100 * line["figures"][found.name][figure] for line in results.teachers
                    if figure in line["figures"].get(found.name, {})])},
            "arms": {
                arm.name: {
                    figure: {**summary(list(known.values())), "difference": differences[figure].get(arm.name)}
                    for figure in FIGURES if (known := values[arm.name, figure])}
                for arm in arms}}
    lines = list(results.lines.values())
    return {
        "study": plan.name, "figure": plan.figure, "baseline": plan.baseline, "steps": plan.steps,
        "other_steps": {arm.name: steps for arm in arms if (steps := plan.steps_of(arm)) != plan.steps}, "sets": sets,
        "settings": {arm.name: plan.settings + arm.settings for arm in arms},
        "searched": {arm.name: {"arm": arm.parent, "settings": arm.tried} for arm in arms if arm.tried},
        "seeds": {
            str(seed): {key: next(line[key] for line in lines if line["seed"] == seed) for key in CONDITIONS}
            for seed in sorted({line["seed"] for line in lines})},
        "runs": len(lines), "hours": sum(line["seconds"] for line in lines) / 3600,
    }


# MARK: Markdown

NONE = "–"


def line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def head(cells):
    return [line(cells), line(["---"] + ["---:"] * (len(cells) - 1))]


def spread(found) -> str:
    return f"{found['mean']:.2f}" + ("" if found["sd"] is None else f" ± {found['sd']:.2f}")


def interval(found) -> str:
    return NONE if found is None or found["low"] is None else f"{found['low']:+.2f} to {found['high']:+.2f}"


def deciding(arm, found) -> list:
    """An arm's row of the first table, from its deciding figure."""
    if found is None:
        return [f"`{arm}`", "0"] + [NONE] * 6
    difference = found["difference"]
    row = [f"`{arm}`", str(found["n"]), spread(found)]
    if difference is None:
        return row + [NONE] * 5
    row += [f"{difference['mean']:+.2f}", interval(difference)]
    if difference["p"] is None:
        return row + [NONE] * 3
    more = difference["more_seeds"]
    return row + [
        f"{difference['p_holm']:.3f}" if difference["p_holm"] >= 0.001 else "< 0.001", difference["verdict"],
        "over 1000" if more is None else str(more)]


def other(found) -> str:
    """A cell of the second table."""
    if found is None:
        return NONE
    difference = found["difference"]
    return spread(found) if difference is None or difference["low"] is None else (
        f"{spread(found)} ({interval(difference)})")


def tried(searched, name) -> str:
    return ", ".join(f"`{setting}`" for setting in searched[name]["settings"]) if name in searched else NONE


def best_trials(document, measured):
    """Of each arm that was searched, the trial with the highest mean of the deciding figure."""
    best = {}
    for name, trial in document["searched"].items():
        found = measured["arms"][name].get(document["figure"])
        if found and (trial["arm"] not in best or found["mean"] > best[trial["arm"]][1]["mean"]):
            best[trial["arm"]] = (name, found)
    for arm, (name, found) in best.items():
        yield line([f"`{arm}`", f"`{name}`", str(found["n"]), spread(found), tried(document["searched"], name)])


def markdown(plan: Plan, document, picture: str) -> str:
    figure, baseline = document["figure"], document["baseline"]
    others = ", ".join(f"`{name}`: {steps}" for name, steps in document["other_steps"].items())
    others = others and f" ({others})"
    lines = [
        f"# Study {plan.name}", "",
        f"{document['runs']} runs of {plan.steps} steps{others}, {document['hours']:.1f} hours of training and"
        f" evaluation. Figures are in points (percent), mean ± standard deviation over seeds; {figure} decides. Differences are to"
        f" `{baseline}`, seed by seed (both have the same initial values, samples and crops), with their 95 % interval"
        " (Student's t) and Holm's p over all arms. An arm is above or below where that p is under 0.05. “More seeds”"
        " is how many further ones would decide if difference and spread stayed as they are.", "",
        f"![Differences to {baseline} with 95 % intervals]({picture})", ""]
    rest = [name for name in FIGURES if name != figure]
    for name, found in document["sets"].items():
        lines += [f"## {name} ({found['purpose']})", ""]
        searched = document["searched"]
        lines += head(["arm", "seeds", figure, "difference", "95 % interval", "p (Holm)", "verdict", "more seeds"]
                      + ["tried"] * bool(searched))
        if figure in found["teacher"]:
            lines.append(line([TEACHER, "", f"{found['teacher'][figure]:.2f}"] + [NONE] * (6 if searched else 5)))
        lines += [
            line(deciding(arm, figures.get(figure)) + [tried(searched, arm)] * bool(searched))
            for arm, figures in found["arms"].items()]
        if best := list(best_trials(document, found)):
            lines += ["", "The best trial of each arm that was searched:", ""]
            lines += head(["arm", "trial", "seeds", figure, "tried"]) + best
        known = [key for key in rest if any(key in figures for figures in found["arms"].values())]
        if known:
            lines += ["", "The other figures, with the interval of the difference (not corrected) in brackets:", ""]
            lines += head(["arm", *known])
            if found["teacher"]:
                teacher = [f"{found['teacher'][key]:.2f}" if key in found["teacher"] else NONE for key in known]
                lines.append(line([TEACHER, *teacher]))
            lines += [
                line([f"`{arm}`", *(other(figures.get(key)) for key in known)])
                for arm, figures in found["arms"].items()]
        lines.append("")
    lines += ["## Where it was measured", "", *head(["seeds", *CONDITIONS])]
    places = {}
    for seed, conditions in document["seeds"].items():
        places.setdefault(tuple(conditions[key] for key in CONDITIONS), []).append(seed)
    lines += [line([", ".join(found), commit, teacher[:12], processor])
              for (commit, teacher, processor), found in places.items()]
    return "\n".join(lines) + "\n"
