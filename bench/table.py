"""Writes the READMEs' table of results from the committed JSON, between the two marker comments.

python bench/table.py          # rewrites README.md and README.zh-CN.md
python bench/table.py --check  # exits with 1 where a README is out of date
"""

import json
import statistics
import sys
from pathlib import Path

from table_deep import deep_table

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: written by bench/table.py -->", "<!-- end of results -->"
ROWS = [
    ("sst2_smollm2", "", "SST-2", "SmolLM2-135M", "p-tuning"),
    ("zh_shopping_gemma", "", "zh_shopping_reviews", "Gemma 3 270M", "p-tuning"),
    ("sst2_minilm_encoders", "embedding", "SST-2", "MiniLM (masked)", "p-tuning"),
    ("sst2_minilm_encoders", "mlp", "SST-2", "MiniLM (masked)", "p-tuning, `mlp`"),
    ("sst2_minilm_encoders", "lstm", "SST-2", "MiniLM (masked)", "p-tuning, `lstm`"),
]
HEADS = {
    "README.md": (
        "Accuracy on the whole test file; mean over seeds, each with its own shots and no validation rows "
        "(deviation and number of seeds in brackets). *Prior out*: without the model's own preference among the label words. "
        "*Untrained*: the prompt as it starts, prior out. Training time on two CPU cores (¹: on one, beside other work).",
        "data | model | method | labelled | zero-shot | prior out | untrained | **trained** | parameters | training",
    ),
    "README.zh-CN.md": (
        "整个测试文件上的准确率，多个随机种子的平均（括号内为标准差和种子数），每个种子各自抽样，不用验证集。*去先验*：去掉模型对标签词"
        "自身的偏好。*未训练*：提示的初始状态（已去先验）。训练时间为两个 CPU 核（¹：一个核，机器同时有其他任务）。",
        "数据 | 模型 | 方法 | 标注数 | 零样本 | 去先验 | 未训练 | **训练后** | 参数 | 训练",
    ),
}

SPEED = {
    "README.md": "Speed, in fp32 on two CPU cores: {}. All figures: [docs/benchmarks.md](docs/benchmarks.md).",
    "README.zh-CN.md": "速度（fp32，两个 CPU 核）：{}。全部数字见 [docs/benchmarks.md](docs/benchmarks.md)。",
}
SPEED_PARTS = {
    "README.md": {
        "step": "a training step on {model} (text of {text} tokens, {soft} learned ones) takes {seconds:.2f} s, {peft:.1f} "
        "times less than `peft`'s prompt tuning as documented and {best:.1f} times less than its best hand",
        "candidates": "{count} candidates at once take {seconds:.2f} s each",
    },
    "README.zh-CN.md": {
        "step": "{model} 上一个训练步（文本 {text} 个词元，{soft} 个可学习词元）用 {seconds:.2f} 秒，"
        "比 `peft` 文档写法的提示微调快 {peft:.1f} 倍，比其最佳用法快 {best:.1f} 倍",
        "candidates": "同时训练 {count} 个候选时每个 {seconds:.2f} 秒",
    },
}

FEW_LABELS = {
    "README.md": "Few labels: a template without `{{soft}}` learns with care. Over {sets} data sets, {seeds} seeds and {shots} "
    "rows of each label it gains {gain:.1f} points on average over the same template with nothing learned and its prior taken "
    "out; means of a data set go from {least:+.1f} to {most:+.1f}. All figures: "
    "[docs/strategy-figures.md](docs/strategy-figures.md).",
    "README.zh-CN.md": "少量标注：不含 `{{soft}}` 的模板会谨慎学习。在 {sets} 个数据集、{seeds} 个种子、每类 {shots} 条样本上，"
    "比不学习、只去掉先验的同一模板平均高 {gain:.1f} 个百分点；各数据集的均值从 {least:+.1f} 到 {most:+.1f}。"
    "全部数字见 [docs/strategy-figures.md](docs/strategy-figures.md)。",
}


def few_labels(readme: str) -> str:
    """One sentence from the JSON of bench/no_harm.py."""
    content = json.loads((ROOT / "bench" / "results" / "no_harm" / "no_harm.json").read_text(encoding="utf-8"))
    spec, figures = content["spec"], content["summary"]["default"]
    gains = [one["gain"] for one in figures["by_set"].values()]
    *first, last = map(str, spec["shots"])
    shots = f"{', '.join(first)} and {last}" if readme == "README.md" else "、".join([*first, last])
    words = {"sets": len(gains), "seeds": len(spec["seeds"]), "shots": shots, "gain": figures["mean_gain"]}
    return FEW_LABELS[readme].format(**words, least=min(gains), most=max(gains))


def speed(readme: str) -> str:
    """One sentence from the engine benchmark's JSON."""

    def result(name: str) -> dict:
        return json.loads((ROOT / "bench" / "results" / "engine" / f"{name}.json").read_text(encoding="utf-8"))

    step, many = result("step_smollm2_128_5_behind"), result("candidates_8_smollm2_128_5")
    spec, figures = step["spec"], step["figures"]
    parts = SPEED_PARTS[readme]
    first = parts["step"].format(
        model="SmolLM2-135M",
        text=spec["text"],
        soft=spec["soft"],
        seconds=statistics.median(figures["seconds"]["ptune"]),
        peft=figures["ratio"]["documented"],
        best=figures["ratio"]["best_hand"],
    )
    second = parts["candidates"].format(count=many["spec"]["candidates"], seconds=many["figures"]["seconds_per_candidate"])
    return SPEED[readme].format(f"{first}; {second}" if readme == "README.md" else f"{first}；{second}")


def table(readme: str) -> str:
    """The table for one README, and the sentences on few labels and on speed under it."""
    note, head = HEADS[readme]
    lines = [note, "", f"| {head} |", "| " + " | ".join(["---"] * len(head.split("|"))) + " |"]
    for name, variant, data, model, method in ROWS:
        path = ROOT / "bench" / "results" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        mean = content["summary"][variant]
        run = next(run for run in content["runs"] if run["variant"] == variant)
        figures = [f"{mean[key]:.3f}" for key in ("zero_shot", "prior_corrected", "untrained_prompt")]
        spread = "" if mean["deviation"] is None else f"{mean['deviation']:.3f}, "
        trained = f"**{mean['accuracy']:.3f}** ({spread}{mean['num_seeds']})"
        cells = [data, model, method, str(run["train_rows"]), *figures, trained, f"{run['trained_parameters']:,}"]
        one_core = " ¹" if ", 1 threads" in content["machine"] else ""
        lines.append("| " + " | ".join([*cells, f"{mean['train_seconds']:.0f} s{one_core}"]) + " |")
    more = deep_table(readme)
    return "\n".join([*lines, *([more] if more else []), "", few_labels(readme), "", speed(readme)])


def main() -> int:
    """Rewrites or checks both READMEs."""
    is_check, stale = "--check" in sys.argv, []
    for readme in HEADS:
        path = ROOT / readme
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        fresh = f"{before}{BEGIN}\n{table(readme)}\n{END}{rest.split(END)[1]}"
        if fresh != text:
            stale.append(readme)
            if not is_check:
                path.write_text(fresh, encoding="utf-8")
    print(f"{'out of date' if is_check else 'rewritten'}: {', '.join(stale) or 'none'}")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
