//! Proofs by machine.
pub(super) fn content_type() -> crate::causality::ContentType {
    crate::causality::ContentType::default()
}
