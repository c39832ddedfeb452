//! Hugging Face Hub: plan, upload, verify, visibility.
