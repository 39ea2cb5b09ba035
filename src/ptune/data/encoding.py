"""Bytes of a text file go in, text comes out, or an error that names the first byte that is not text.

UTF-8 and anything with a byte order mark is read as it is. GB18030 is tried last and taken only when the result reads
like Chinese, since it also decodes many Latin-1 files, into nonsense. A named encoding is taken at its word.
"""

import codecs
from itertools import islice

from ptune.data.names import did_you_mean
from ptune.errors import DataError, notice

__all__ = ["decode"]

# UTF-32 first: its little-endian mark begins with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMON_ENCODINGS = ("utf-8", "utf-16", "gb18030", "gbk", "gb2312", "big5", "cp1252", "latin-1", "shift_jis", "euc-kr")
_NUM_SAMPLED = 10_000


def decode(raw: bytes, name: str, encoding: str | None = None) -> str:
    """Turns the bytes of a file into text.

    Args:
        raw: the whole file.
        name: the file's name, for messages.
        encoding: a codec's name, used strictly; None detects UTF-8, UTF-16 and UTF-32 with a mark, and GB18030.

    Returns:
        The text without a byte order mark; line ends as they are in the file.

    Raises:
        DataError: the encoding is unknown, or a byte does not fit it (with file and line).
    """
    if encoding is not None:
        return _decode_strictly(raw, name, encoding)
    marked = next((codec for mark, codec in _MARKS if raw.startswith(mark)), None)
    if marked is not None:
        return _decode_strictly(raw, name, marked)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _decode_gb18030(raw, name, error)
    if "\0" in text:
        raise DataError(
            "the file holds NUL bytes: UTF-16 without a byte order mark, or not text",
            where=_place(raw, name, raw.index(0), "utf-8"),
            fix="save it as UTF-8, or set encoding: utf-16-le",
        )
    return text


def _decode_strictly(raw: bytes, name: str, encoding: str) -> str:
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        fix = did_you_mean(encoding, _COMMON_ENCODINGS, "use a name that Python knows, such as utf-8 or gb18030")
        raise DataError(f"unknown encoding '{encoding}'", where=name, fix=fix) from error
    except UnicodeDecodeError as error:
        raise _bad_byte(raw, name, error, encoding) from error


def _decode_gb18030(raw: bytes, name: str, utf8_error: UnicodeDecodeError) -> str:
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError:
        text = ""
    if not _reads_like_chinese(text):
        raise _bad_byte(raw, name, utf8_error, "utf-8") from utf8_error
    notice(f"{name} is not UTF-8: read as GB18030; set encoding: gb18030 to silence")
    return text


def _reads_like_chinese(text: str) -> bool:
    """Whether most of the characters beyond ASCII are everyday Chinese characters or Chinese punctuation."""
    sample = list(islice((character for character in text if not character.isascii()), _NUM_SAMPLED))
    return 2 * sum(map(_is_everyday_chinese, sample)) > len(sample)


def _is_everyday_chinese(character: str) -> bool:
    """Rows of GB 2312: 1 and 3 are punctuation, 16 to 55 the 3,755 everyday characters.

    Latin-1 misread as GB18030 lands outside them: its second byte is an ASCII letter, which GB 2312 has not.
    """
    try:
        row = character.encode("gb2312")[0] - 0xA0
    except UnicodeEncodeError:
        return False
    return row in (1, 3) or 16 <= row <= 55


def _bad_byte(raw: bytes, name: str, error: UnicodeDecodeError, encoding: str) -> DataError:
    return DataError(
        f"byte 0x{raw[error.start]:02X} is not {encoding.upper()} text",
        where=_place(raw, name, error.start, encoding),
        fix="save the file as UTF-8 or name its encoding, for example encoding: cp1252 or encoding: gb18030",
    )


def _place(raw: bytes, name: str, offset: int, encoding: str) -> str:
    num_lines_before = raw[:offset].decode(encoding, "ignore").count("\n")
    return f"{name}:{num_lines_before + 1}"
