//! What is inside attachments, bounded.
