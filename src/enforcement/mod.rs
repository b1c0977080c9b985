//! What is done after the reply.
