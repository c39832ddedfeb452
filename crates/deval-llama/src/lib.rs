//! LLaMA inference on candle.
