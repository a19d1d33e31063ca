"""mBART (Liu et al. 2020) and mBART-50 (Tang et al. 2020). Each language has a symbol."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Mapping

from ...errors import PyramidionError
from ...utils.files import read_json_if_there
from .. import byte_level, dictionary_files
from ..bart import options
from .base import Family, Vocabulary, check_size, generation_start, sentencepieces

logger = logging.getLogger(__name__)

_CODES = """ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM
ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"""
_MORE_CODES = """af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE
sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI"""
#: The languages of mBART in the order of its embedding, where they follow the pieces.
LANGUAGES = _CODES.split()
#: Those of mBART-50.
LANGUAGES_50 = LANGUAGES + _MORE_CODES.split()
#: ``src_lang`` of transformers' tokenizers where it is not given.
_DEFAULT_LANGUAGE = "en_XX"
#: Options in which mBART differs from BART.
_PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


class MBart(Family):
    """Pre-norm layers, layer norms after the embedding and after the last layer, and a sentencepiece vocabulary.

    In mBART, a document ends with ``</s>`` and its language, and generation starts from the summary's language. In
    mBART-50, documents and summaries start with their language.
    """

    model_type = "mbart"
    start_row = None  # the summary's language

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        return options.common(config, self.title, {**_PRE_NORM, "prepend_bos": False})

    def from_fairseq(self, args: Mapping[str, Any]) -> dict[str, Any]:
        given = options.from_arguments(args, self.title, "mbart", _PRE_NORM)
        sides = [args.get(f"{side}_langtok") for side in ("encoder", "decoder")]
        if "decoder_langtok" in args and bool(sides[0]) != bool(sides[1]):
            raise PyramidionError(
                f"cannot convert an mBART with encoder_langtok={sides[0]!r} and decoder_langtok={sides[1]!r}: "
                "documents and summaries both start with a language, or neither"
            )
        return given

    def fairseq_symbols(self, known: list[str], size: int, args: Mapping[str, Any]) -> list[str]:
        """Return the symbols of dict.txt and those that fairseq's task adds: languages, and usually ``<mask>``.

        fairseq's ``translation_multi_simple_epoch`` adds ``<mask>`` only with ``--lang-tok-style mbart``.

        Raises:
            PyramidionError: these symbols are not as many as the rows of the embedding.
        """
        missing = size - len(known)
        if missing == 0 or (missing == 1 and any(_is_language(symbol) for symbol in known)):
            return known  # dict.txt has all symbols, except perhaps <mask>, which is added as for BART
        told = _languages(args)
        for names in [told] if told else [LANGUAGES, LANGUAGES_50]:
            added = [symbol for name in names if (symbol := _marker(name, args)) not in known]
            for last in (["<mask>"], []):
                if missing == len(added) + len(last):
                    _tell(added, last)
                    return [*known, *added, *last]
        raise PyramidionError(
            f"the model's embedding has {size:,} rows, its dictionary {len(known):,} symbols: the difference is not "
            f"that of {f'the {len(told)} languages of its training' if told else '25 or 52 languages'}, with or "
            "without <mask>; give --dictionary with the languages in it"
        )

    def fairseq_markers(self, args: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        pairs = args.get("lang_pairs") or []
        pairs = pairs.split(",") if isinstance(pairs, str) else list(pairs)
        trained = str(pairs[0]).split("-") if len(pairs) == 1 else []
        trained = trained if len(trained) == 2 else ["", ""]
        document, summary = args.get("source_lang") or trained[0], args.get("target_lang") or trained[1]
        if args.get("encoder_langtok") == "tgt":
            document = summary
        languages = len([symbol for symbol in symbols if _is_language(symbol)])
        return {
            "prepend_bos": bool(args.get("encoder_langtok")) or languages >= len(LANGUAGES_50),
            "document_marker": document and _marker(document, args),
            "summary_marker": summary and _marker(summary, args),
        }

    def vocabulary(self, folder: Path, size: int, bpe: byte_level.Bpe | None, given: Path | None = None) -> Vocabulary:
        pieces = sentencepieces(given or folder)[3:]  # <unk>, <s> and </s>, which stand elsewhere here
        known = [*dictionary_files.SPECIALS, *pieces]
        languages = LANGUAGES_50 if size > len(known) + len(LANGUAGES) + 1 else LANGUAGES
        last = [] if size == len(known) + len(languages) else ["<mask>"]
        symbols = [*known, *languages, *last]
        check_size(folder, len(symbols), size)
        dictionary_files.check_dictionary(symbols)
        _tell(languages, last)
        return Vocabulary(symbols)

    def markers(self, folder: Path, config: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
        tokenizer = read_json_if_there(folder / "tokenizer_config.json")
        prepends = len([symbol for symbol in symbols if symbol in LANGUAGES_50]) == len(LANGUAGES_50)
        key = "forced_bos_token_id" if prepends else "decoder_start_token_id"
        row = generation_start(folder, config, key)
        named = symbols[row] if isinstance(row, int) and 0 <= row < len(symbols) else None
        summary = named if named in LANGUAGES_50 else tokenizer.get("tgt_lang")
        document = tokenizer.get("src_lang")
        if not document:
            document = _DEFAULT_LANGUAGE
            logger.warning(
                f"{folder} does not name the language of documents: {document}, as in transformers; set it with "
                "--document-marker"
            )
        return {"prepend_bos": prepends, "document_marker": document, "summary_marker": summary or document}

    def check_options(self, given: Mapping[str, Any]) -> None:
        for side in ("document", "summary"):
            if not given.get(f"{side}_marker"):
                raise PyramidionError(
                    f"the model does not say its language: give --{side}-marker, such as en_XX ([en_XX] in fairseq's, "
                    "or __en_XX__)"
                )


def _languages(args: Mapping[str, Any]) -> list[str]:
    """Return the languages for which fairseq's task added symbols, in their order; empty if they are not recorded."""
    if args.get("add_lang_token") is False:
        return []
    given = args.get("langs") or ""
    return given.split(",") if isinstance(given, str) and given else list(given)


def _marker(language: str, args: Mapping[str, Any]) -> str:
    """Return a language's symbol, in the style that the checkpoint's task uses."""
    return f"__{language}__" if args.get("lang_tok_style") == "multilingual" else f"[{language}]"


def _is_language(symbol: str) -> bool:
    return symbol.strip("[]_") in LANGUAGES_50


def _tell(languages: list[str], last: list[str]) -> None:
    """Log which symbols follow those of the tokenizer or of dict.txt."""
    mask = "<mask>" if last else "no <mask>, for which the embedding has no row"
    named = f", {languages[0]} to {languages[-1]}" if languages else ""
    logger.info(f"after the pieces {len(languages)} languages{named}, and {mask}")
