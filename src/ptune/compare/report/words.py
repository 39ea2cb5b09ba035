"""The words of the report in English and Chinese, and how both stand in one page: each in a span, of which one is shown."""

from html import escape

from ptune.compare.wording import Both

__all__ = ["WORDS", "both", "html_of", "in_markdown"]

WORDS: dict[str, Both] = {
    "report": ("Comparison", "方法比较"),
    "recommendation": ("Recommendation", "推荐"),
    "rules": ("The rules that this follows", "推荐所依据的规则"),
    "table": ("All methods", "全部方法"),
    "charts": ("Charts", "图"),
    "curve": ("Accuracy against labelled rows", "准确率与标注数"),
    "cost": ("Accuracy against cost", "准确率与代价"),
    "steps": ("Accuracy against steps (validation)", "准确率与训练步数（验证集）"),
    "details": ("Confusion and reliability", "混淆矩阵与可靠性"),
    "texts": ("Texts on which methods differ", "各方法回答不一的文本"),
    "about": ("About this comparison", "关于本次比较"),
    "methods": ("methods, models and numbers of rows", "个方法、模型与标注数的组合"),
    "method": ("method", "方法"),
    "model": ("model", "模型"),
    "paradigm": ("paradigm", "范式"),
    "shots": ("rows per label", "每类标注"),
    "accuracy": ("accuracy", "准确率"),
    "deviation": ("± seeds", "± 种子"),
    "interval": ("95 % interval", "95 % 区间"),
    "from_best": ("to the best", "与最佳之差"),
    "macro_f1": ("macro-F1", "宏 F1"),
    "calibration": ("calibration error", "校准误差"),
    "trained": ("trained parameters", "训练参数"),
    "train_seconds": ("learning, s", "训练（秒）"),
    "predict_seconds": ("1000 texts, s", "千条预测（秒）"),
    "memory": ("memory, MB", "内存（MB）"),
    "stored": ("stored", "存储"),
    "trials": ("trials", "试验数"),
    "unlabelled": ("unlabelled texts", "无标注文本"),
    "reason": ("no figures", "没有结果"),
    "best": ("best", "最佳"),
    "no difference": ("no difference shown", "差异不显著"),
    "better": ("better", "更好"),
    "worse": ("worse", "更差"),
    "filter": ("filter by name", "按名称筛选"),
    "all": ("all", "全部"),
    "reset": ("show all", "显示全部"),
    "show": ("show in the charts", "在图中突出显示"),
    "sort": ("click a heading to sort", "点击表头排序"),
    "predicted": ("predicted", "预测"),
    "true": ("true", "真实"),
    "confidence": ("top probability", "最高概率"),
    "right": ("share right", "正确比例"),
    "right_of": ("right", "答对"),
    "of_methods": ("of methods", "的方法"),
    "text": ("text", "文本"),
    "label": ("true label", "真实标签"),
    "others": ("other test sets", "其他测试集"),
    "seed": ("seeds", "种子"),
    "test_rows": ("test rows", "测试样本"),
    "train_rows": ("rows to learn from", "可用训练样本"),
    "tuned_on": ("choices", "选择"),
    "tuned_first": (
        "settings were chosen on validation rows of the first seed, as many trials for each method",
        "设置在第一个种子的验证集上选择，各方法试验数相同",
    ),
    "tuned_each": (
        "settings were chosen on validation rows of each seed, as many trials for each method",
        "设置在每个种子的验证集上选择，各方法试验数相同",
    ),
    "computing": ("computing time of all cells", "全部计算时间"),
    "machine": ("machine", "机器"),
    "remarks": ("data", "数据"),
    "fingerprint": ("fingerprint of the test rows", "测试样本指纹"),
    "interval_note": (
        "Intervals (95 %) are for other seeds and other test rows; differences are paired on the same rows and seeds and "
        "not corrected for the number of methods. Learning time includes the looks at validation.",
        "区间（95 %）针对换种子、换测试样本的情形；差异在相同样本与种子上配对，未按方法数校正。训练时间包含验证。",
    ),
    "fair_note": (
        "All methods have the same rows, batch size and number of trials, and as many steps; SetFit has steps of its own, "
        "folds and candidates train several prompts with as many each, and so do PET's patterns and student. ptune's prompts "
        "take out the model's preference for a label before they learn; PEFT's rows keep it, as PEFT has nothing for it.",
        "各方法使用相同的样本、批大小、试验数与步数；SetFit 有自己的步数，分折与候选各自以同样步数训练多个提示，"
        "PET 的各模式与学生模型亦然。"
        "ptune 的提示在学习前去除模型对标签的偏好；PEFT 的各行保留它，因为 PEFT 没有相应功能。",
    ),
    "more": ("details", "详情"),
    "language": ("中文", "English"),
}


def both(key: str) -> str:
    """A word in both languages, as HTML."""
    return html_of(WORDS[key])


def html_of(texts: Both) -> str:
    """A pair of texts as HTML; a text that is the same in both stands once."""
    english, chinese = map(escape, texts)
    if english == chinese:
        return english
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def in_markdown(key: str, language: str) -> str:
    """A word in one language."""
    return WORDS[key][language == "zh"]
