//! `tokenizer_class` of `tokenizer_config.json`: the names that transformers 4.47.1 knows (`tokenization_auto.py`).

use deval_report::Diagnostic;
use serde_json::Value;

/// Classes of which there is a fast form, `…Tokenizer` and `…TokenizerFast`, without these endings.
const FAST: &str = "\
    Albert Bart Barthez Bert BigBird BlenderbotSmall Blenderbot Bloom CLIP Camembert CodeGen CodeLlama Cohere ConvBert \
    Cpm DPRContextEncoder DPRQuestionEncoder DPRReader Deberta DebertaV2 DistilBert Electra FNet Funnel GPT2 GPTNeoX \
    Gemma Herbert LED LayoutLM LayoutLMv2 LayoutLMv3 LayoutXLM Llama Longformer Lxmert MBart50 MBart MPNet MT5 \
    MarkupLM MobileBert Mvp Nllb Nougat OpenAIGPT Pegasus PreTrained Qwen2 Realm Reformer RemBert RetriBert RoFormer \
    Roberta SeamlessM4T Splinter SqueezeBert T5 Udop Whisper XGLM XLMRoberta XLNet";

/// Classes without one.
const SLOW: &str = "\
    Bartpho BertGeneration BertJapanese Bertweet BioGpt ByT5 CTRL Canine Clvp CpmAnt ErnieM Esm FSMT \
    FastSpeech2Conformer Flaubert GPTNeoXJapanese GPTSanJapanese GPTSw3 Jukebox Luke M2M100 MLuke Marian Mgpstr MyT5 \
    PLBart Perceiver Phobert Pop2Piano ProphetNet Rag RoCBert Siglip Speech2Text2 Speech2Text SpeechT5 Tapas Tapex \
    TransfoXL Vits Wav2Vec2CTC Wav2Vec2PhonemeCTC Wav2Vec2 XLMProphetNet XLM";

/// `AutoTokenizer` raises on any other name; without one it takes the class of the model's type.
pub(super) fn check(settings: &Value) -> Option<Diagnostic> {
    let class = settings.get("tokenizer_class").filter(|class| !class.is_null())?;
    if class.as_str().is_some_and(is_known) {
        return None;
    }
    let message = "the validator's transformers 4.47.1 does not know the `tokenizer_class`";
    let finding = Diagnostic::error("model.tokenizer", message).found(class.to_string());
    let help = "set it to \"PreTrainedTokenizerFast\", which reads tokenizer.json, or to the class in the model you started from";
    Some(finding.expected("\"PreTrainedTokenizerFast\" or \"LlamaTokenizerFast\"").help(help))
}

fn is_known(class: &str) -> bool {
    let (name, fast) = class.strip_suffix("Fast").map_or((class, false), |name| (name, true));
    let Some(name) = name.strip_suffix("Tokenizer") else { return false };
    let is_in = |list: &str| list.split(' ').any(|known| known == name);
    is_in(FAST) || (!fast && is_in(SLOW))
}
