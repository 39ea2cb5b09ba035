"""The READMEs' table of the deep benchmark, from its committed JSON; `bench/table.py` puts it under the first one."""

import json
from pathlib import Path

import yaml

__all__ = ["deep_table"]

BENCH = Path(__file__).resolve().parent
RESULTS, SPEC = BENCH / "results" / "deep", BENCH / "specs" / "deep.yaml"
METHODS = ("p-tuning-v2", "prefix-tuning", "prompt-tuning", "fine-tuning")
HEADS = {
    "README.md": (
        "Other kinds of task: at most 300 training rows, the first 200 test rows, mean over seeds (their number in brackets); "
        "*fine-tuning* trains all weights. Recipes in `examples/deep`, all figures by `bench/deep.py`.",
        "data | task | model | figure | p-tuning-v2 | prefix-tuning | prompt-tuning | fine-tuning | parameters of v2",
    ),
    "README.zh-CN.md": (
        "其他任务类型：最多 300 条训练数据，测试集前 200 条，多个随机种子的平均（括号内为种子数）；*fine-tuning* 训练全部权重。"
        "配方在 `examples/deep`，全部数字由 `bench/deep.py` 得到。",
        "数据 | 任务 | 模型 | 指标 | p-tuning-v2 | prefix-tuning | prompt-tuning | fine-tuning | v2 参数量",
    ),
}


def deep_table(readme: str) -> str:
    """The table for one README; empty while there are no results."""
    cases = yaml.safe_load(SPEC.read_text(encoding="utf-8"))["data"]
    paths = [RESULTS / f"{name}.json" for name in cases]
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()}
    if not contents:
        return ""
    note, head = HEADS[readme]
    lines = ["", note, "", f"| {head} |", "| " + " | ".join(["---"] * len(head.split("|"))) + " |"]
    for name, content in contents.items():
        shows, means = cases[name]["shows"], content["summary"]
        if not set(METHODS) <= set(means):  # not run to the end yet
            continue
        best = max(mean["score"] for mean in means.values())
        cells = [name, shows["task"], shows["model"], next(iter(means.values()))["metric"].replace("_", " ")]
        for method in METHODS:
            mean = means.get(method)
            if mean is None:
                cells.append("-")
                continue
            figure = f"{mean['score']:.3f}"
            cells.append((f"**{figure}**" if mean["score"] == best else figure) + f" ({len(mean['scores'])})")
        trained = means.get("p-tuning-v2", {}).get("trained_parameters")
        lines.append("| " + " | ".join([*cells, "-" if trained is None else f"{trained:,}"]) + " |")
    return "\n".join(lines)
