"""How rows, paradigms and sizes are called, in English and in Chinese: for reports and recommendations."""

from ptune.compare.results import Row

__all__ = ["PARADIGMS", "Both", "cost_class", "file_size", "in_chinese", "points", "row_name", "title_in_chinese"]

Both = tuple[str, str]
"""English, Chinese."""

PARADIGMS: dict[str, Both] = {
    "no learning": ("no learning", "不学习"),
    "counting": ("counted words", "词频统计"),
    "word vectors": ("word vectors", "词向量"),
    "fine-tuning": ("fine-tuning", "预训练 + 微调"),
    "prompting": ("prompting", "预训练 + 提示"),
}

_TITLES = {
    "majority": "多数类",
    "tfidf-naive-bayes": "TF-IDF + 朴素贝叶斯",
    "tfidf-svm": "TF-IDF + 线性 SVM",
    "tfidf-logistic": "TF-IDF + 逻辑回归",
    "bilstm": "词向量 + BiLSTM",
    "textcnn": "词向量 + TextCNN",
    "linear-probe": "隐藏状态上的逻辑回归",
    "head-fine-tuning": "只微调分类头",
    "fine-tuning": "全参数微调",
    "template-fine-tuning": "带模板的全参数微调",
    "zero-shot": "仅模板",
    "zero-shot-prior": "仅模板（去先验）",
    "zero-shot-contextual": "仅模板（上下文校准）",
    "zero-shot-domain": "仅模板（领域校准）",
    "zero-shot-batch": "仅模板（批校准）",
    "in-context": "上下文学习",
    "in-context-nearest": "上下文学习（最近邻示例）",
    "searched-template": "搜索的模板（去先验）",
    "searched-words": "p-tuning（搜索的标签词）",
    "refined-words": "精选标签词（KPT）",
    "word-weights": "p-tuning（标签词权重，KPT）",
    "label-vectors": "标签向量（WARP）",
    "prototypes": "原型（ProtoVerb）",
    "entailment": "蕴含式（EFL）",
    "p-tuning-words": "p-tuning（学习模板词）",
    "p-tuning-words-folds": "p-tuning（学习模板词，分折）",
    "p-tuning-ensemble": "p-tuning（候选平均）",
    "p-tuning-decoupled": "p-tuning（解耦损失，ADAPET）",
    "p-tuning-augmented": "p-tuning（改写的副本）",
    "p-tuning-demonstrations": "p-tuning（最近邻示例之后，LM-BFF）",
    "p-tuning-v2-r-drop": "P-Tuning v2（置于文本之后，R-Drop）",
    "p-tuning-mlp": "p-tuning（MLP 编码器）",
    "p-tuning-lstm": "p-tuning（LSTM 编码器）",
    "p-tuning-candidates": "p-tuning（多候选）",
    "p-tuning-head": "p-tuning + 线性头",
    "p-tuning-v2-head": "P-Tuning v2 + 线性头",
    "p-tuning-v2-behind": "P-Tuning v2（置于文本之后）",
    "peft-prompt-tuning": "PEFT 提示微调",
    "peft-prefix-tuning": "PEFT 前缀微调",
    "peft-p-tuning": "PEFT p-tuning",
    "prompt-tuning": "提示微调",
    "prefix-tuning": "前缀微调",
    "lora": "LoRA（PEFT）",
}
_SMALL_BYTES = 10**6


def title_in_chinese(row: Row) -> str:
    """A method's title; its own where it is a name of the field."""
    return _TITLES.get(row.method, row.title)


def row_name(row: Row) -> str:
    """Method and model."""
    return f"{row.title} on {row.backbone}" if row.backbone else row.title


def in_chinese(row: Row) -> str:
    """Method and model."""
    return f"“{title_in_chinese(row)}”（{row.backbone}）" if row.backbone else f"“{title_in_chinese(row)}”"


def cost_class(row: Row) -> int:
    """0 no language model, 1 a model with nothing trained, 2 a frozen model with a small store, 3 weights of its own."""
    if not row.backbone:
        return 0
    if not row.num_trained:
        return 1
    return 2 if row.num_bytes < _SMALL_BYTES else 3


def points(share: float) -> str:
    """A share in percentage points; whole numbers without a decimal."""
    value = round(100 * share, 1) + 0.0
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def file_size(num_bytes: int) -> str:
    """As in 3.5 kB."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes} B"
