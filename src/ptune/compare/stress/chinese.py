"""Chinese spelling: homophones, full and half width, traditional characters. Small tables of our own; what they lack stays.

Homophones are the slips of pinyin typing: one in four of the characters that the table knows, at least one. Traditional
characters are those of everyday reviews and news whose simplified form stands for one of them alone.
"""

import random

from ptune.compare.stress.perturbation import Perturbations

__all__ = ["full_width", "half_width", "homophones", "simplified", "traditional"]

_HOMOPHONES = (
    *(
        "的得地",
        "在再",
        "做作",
        "他她它",
        "那哪",
        "坐座",
        "象像",
        "以已",
        "须需",
        "帐账",
        "带戴",
        "只支",
        "进近",
        "气汽",
        "买卖",
    ),
    *(
        "清青轻",
        "园圆",
        "员圆",
        "才材财",
        "份分",
        "化话画",
        "即既",
        "记计",
        "历厉",
        "练炼",
        "密蜜",
        "期其",
        "情晴",
        "实识",
        "事是",
    ),
    *(
        "时实",
        "书舒",
        "题提",
        "完玩",
        "为位",
        "问闻",
        "新心",
        "形型",
        "意义",
        "用永",
        "有友",
        "原源",
        "张章",
        "知之",
        "值直",
        "质制",
    ),
)
_TRADITIONAL = dict(
    zip(
        "这个们来说时对会过还没见现经动问题员样东车长间门马鸟鱼买卖电视听话语读书写学习觉让认识记谁请谢费贵质钱错银铁锅"
        "应该边远运进连选还迟热烧烦闹离难单双头发饭饮馆饱饿汤鸡虽实际飞机场华国图圆团园块坏声处备复够夺奋妇婴孙宁宝审宽宾"
        "导层岁师带帮广庆库废开异弃张弹归录径忆态总恋恼惊惯惧愿懒户扫扬扩报担拥择挂换据损摆数无旧显晓暂术机权条极构标栏树桥梦"
        "检楼欢欧残毕气汉没济浅测涛润渐湿满滚灯灵炉炼点烟爱爷牵犹猫环电画疗疯盐监盖盘着矿码础确礼祸种称积稳穷窃竞笔签简粮紧"
        "约级纪纯纸线练组细织终绍结给络绝统继续维绿编缘缩网罗职联肤胜脏脚脑脸舰艺节苏药获虑虚补装规观览计订训议讯讲许论设访证评词"
        "译试诗诚详误诱调谈财责败货质贩贪购贯贴资赏赔赖赛赢跃轮软轻载较辆输辞达迁违迹适释里针钟钢钥银铃锁键镜闪问闲闻阅队阳阴阵"
        "阶际陆险随隐雾静页顶项顺须顾顿预领频颗颜额风驱驶验骂骗鲜鲁鸣黄齐齿龄龙",
        "這個們來說時對會過還沒見現經動問題員樣東車長間門馬鳥魚買賣電視聽話語讀書寫學習覺讓認識記誰請謝費貴質錢錯銀鐵鍋"
        "應該邊遠運進連選還遲熱燒煩鬧離難單雙頭發飯飲館飽餓湯雞雖實際飛機場華國圖圓團園塊壞聲處備復夠奪奮婦嬰孫寧寶審寬賓"
        "導層歲師帶幫廣慶庫廢開異棄張彈歸錄徑憶態總戀惱驚慣懼願懶戶掃揚擴報擔擁擇掛換據損擺數無舊顯曉暫術機權條極構標欄樹橋夢"
        "檢樓歡歐殘畢氣漢沒濟淺測濤潤漸濕滿滾燈靈爐煉點煙愛爺牽猶貓環電畫療瘋鹽監蓋盤著礦碼礎確禮禍種稱積穩窮竊競筆簽簡糧緊"
        "約級紀純紙線練組細織終紹結給絡絕統繼續維綠編緣縮網羅職聯膚勝髒腳腦臉艦藝節蘇藥獲慮虛補裝規觀覽計訂訓議訊講許論設訪證評詞"
        "譯試詩誠詳誤誘調談財責敗貨質販貪購貫貼資賞賠賴賽贏躍輪軟輕載較輛輸辭達遷違跡適釋裡針鐘鋼鑰銀鈴鎖鍵鏡閃問閒聞閱隊陽陰陣"
        "階際陸險隨隱霧靜頁頂項順須顧頓預領頻顆顏額風驅駛驗罵騙鮮魯鳴黃齊齒齡龍",
        strict=True,
    )
)
_SIMPLIFIED = {traditional: simplified for simplified, traditional in _TRADITIONAL.items()}
_TO_FULL = {**{code: code + 0xFEE0 for code in range(0x21, 0x7F)}, 0x20: 0x3000}
_TO_HALF = {full: half for half, full in _TO_FULL.items()} | {ord("。"): ord("."), ord("、"): ord(",")}
_SHARE = 0.25


def homophones(text: str, draw: random.Random) -> str:
    """Some characters replaced by others of the same sound."""
    groups = {one: group for group in _HOMOPHONES for one in group}
    places = [at for at, one in enumerate(text) if one in groups]
    chosen = set(draw.sample(places, max(1, round(_SHARE * len(places))))) if places else set()
    return "".join(
        draw.choice([other for other in groups[one] if other != one]) if at in chosen else one for at, one in enumerate(text)
    )


def traditional(text: str, draw: random.Random) -> str:
    """Simplified characters as traditional ones."""
    return "".join(_TRADITIONAL.get(one, one) for one in text)


def simplified(text: str, draw: random.Random) -> str:
    """Traditional characters as simplified ones."""
    return "".join(_SIMPLIFIED.get(one, one) for one in text)


def full_width(text: str, draw: random.Random) -> str:
    """Letters, digits and signs of ASCII in full width."""
    return text.translate(_TO_FULL)


def half_width(text: str, draw: random.Random) -> str:
    """Full-width letters, digits and signs as ASCII."""
    return text.translate(_TO_HALF)


Perturbations.add("homophones", ("homophones", "同音字"), homophones, ("zh",))
Perturbations.add("traditional", ("traditional characters", "繁体字"), traditional, ("zh",))
Perturbations.add("simplified", ("simplified characters", "简体字"), simplified, ("zh",))
Perturbations.add("full-width", ("full width", "全角"), full_width)
Perturbations.add("half-width", ("half width", "半角"), half_width, ("zh",))
