import os
from pathlib import Path

import ptune

# 一个 GB18030 编码的 CSV，常见于 Excel 导出的中文表格
Path("comments.csv").write_bytes(
    "评论,标签\n质量很好，值得买。,好评\n我很喜欢，服务也很好。,好评\n服务很差，我不喜欢。,差评\n物流太慢，包装很差。,差评\n".encode(
        "gb18030"
    )
)

task = ptune.fit(
    train="comments.csv",
    columns={"评论": "text"},  # 把列名“评论”改成模板里的字段名
    label="标签",
    encoding="gb18030",  # 不写也能自动识别，写上更稳妥
    template="{text}{soft:4} 总体来说，很{mask}",
    labels={"好评": ["好"], "差评": ["差"]},
    backbone=os.environ.get("PTUNE_SNIPPET_BACKBONE", "gemma-3-270m-q4"),
    steps=4,
)
print(task.predict(["下次还会来。"])[0].label)
