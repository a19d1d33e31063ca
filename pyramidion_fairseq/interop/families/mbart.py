"""mBART (Liu et al. 2020) and mBART-50 (Tang et al. 2020): many languages, each with a symbol of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from ...errors import PyramidionError
from ..bart import options, vocabulary
from .base import Family, Vocabulary, check_size, sentencepieces

_CODES = """ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM
ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"""
_MORE_CODES = """af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE
sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"""
#: The languages of mBART in the order of its embedding, which come after the pieces.
LANGUAGES = _CODES.split()
#: Those of mBART-50.
LANGUAGES_50 = LANGUAGES + _MORE_CODES.split()
#: What mBART has beside the options of BART.
_PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


class MBart(Family):
    """Pre-norm, with layer norms after the embedding and at the end of both sides; a sentencepiece vocabulary.

    mBART's documents end in ``</s>`` and their language, and summaries are written from their language. mBART-50's
    documents and summaries start with their language.
    """

    model_type = "mbart"

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        return options.common(config, self.title, {**_PRE_NORM, "prepend_bos": False})

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        given = options.from_arguments(args, self.title, "mbart", _PRE_NORM)
        if "document_marker" in args:  # one of ours
            return given
        marked = {f"{side}_marker": _marker(args.get(lang)) for side, lang in _SIDES.items()}
        prepends = bool(args.get("encoder_langtok")) or len(_languages(args)) == len(LANGUAGES_50)
        return {**given, **marked, "prepend_bos": prepends}

    def fairseq_symbols(self, known: list[str], size: int, args: Mapping[str, Any]) -> list[str]:
        """Return the symbols of dict.txt and those that fairseq's task adds: languages in brackets, and ``<mask>``."""
        for names in (_languages(args), LANGUAGES, LANGUAGES_50):
            if names and len(known) + len(names) + 1 == size:
                return [*known, *(f"[{name}]" for name in names), "<mask>"]
        return known

    def vocabulary(self, folder: Path, size: int, bpe: vocabulary.Bpe | None, given: Path | None = None) -> Vocabulary:
        pieces = sentencepieces(given or folder)[3:]  # <unk>, <s> and </s>, which stand elsewhere here
        known = [*vocabulary.SPECIALS, *pieces]
        languages = LANGUAGES_50 if size > len(known) + len(LANGUAGES) + 1 else LANGUAGES
        symbols = [*known, *languages, "<mask>"]
        check_size(folder, len(symbols), size)
        vocabulary.check_symbols(symbols)
        return Vocabulary(symbols)

    def markers(self, folder: Path, config: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        generation = vocabulary.read_json_if_there(folder / "generation_config.json")
        tokenizer = vocabulary.read_json_if_there(folder / "tokenizer_config.json")
        prepends = len([symbol for symbol in symbols if symbol in LANGUAGES_50]) == len(LANGUAGES_50)
        key = "forced_bos_token_id" if prepends else "decoder_start_token_id"
        row = generation.get(key, config.get(key))
        named = symbols[row] if isinstance(row, int) and 0 <= row < len(symbols) else None
        summary = named if named in LANGUAGES_50 else tokenizer.get("tgt_lang")
        document = tokenizer.get("src_lang") or summary
        return {
            "prepend_bos": prepends,
            "document_marker": document or summary or "",
            "summary_marker": summary or document or "",
        }

    def check(self, given: Mapping[str, Any]) -> None:
        for side in _SIDES:
            if not given.get(f"{side}_marker"):
                raise PyramidionError(
                    f"the model does not say its language: give --{side}-marker, such as en_XX ([en_XX] in fairseq's)"
                )


_SIDES = {"document": "source_lang", "summary": "target_lang"}


def _languages(args: Mapping[str, Any]) -> list[str]:
    """Return what fairseq's task was told of languages, in its order."""
    given = args.get("langs") or ""
    return given.split(",") if isinstance(given, str) and given else list(given)


def _marker(language: Any) -> str:
    return f"[{language}]" if language else ""
